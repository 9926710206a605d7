// What the attention kernels share. qkv is [pictures tokens, 3 width]: q, k, v, each [heads, head_dim].
//
// An invocation owns ROWS rows of one head and streams the other side four rows at a time. No score outlives its use:
// the backward computes them again, and only three numbers a query pass between its two kernels.

struct Shape {
    units: u32,
    tokens: u32,
    heads: u32,
    head_dim: u32,
    kinds: u32,
    scale: f32,
}

const NOWHERE: f32 = -3.0e38;

@group(0) @binding(0) var<uniform> shape: Shape;
//: if VEC
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>;
//: else
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
//: end

// Four channels of q (part 0), k (1) or v (2) from channel 4 line on, zero behind the head's last.
fn qkv_line(row: u32, part: u32, head: u32, line: u32) -> vec4<f32> {
    let start = ((row * 3u + part) * shape.heads + head) * shape.head_dim;
//: if VEC
    return qkv[start / 4u + line];
//: else
    let last = shape.head_dim - 1u;
    let values = vec4<f32>(
        qkv[start + min(4u * line, last)],
        qkv[start + min(4u * line + 1u, last)],
        qkv[start + min(4u * line + 2u, last)],
        qkv[start + min(4u * line + 3u, last)],
    );
    return select(vec4<f32>(), values, vec4<u32>(4u * line) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(shape.head_dim));
//: end
}

//: if BIAS
@group(0) @binding(5) var<storage, read> bias: array<f32>;

// Where the biases of a head of a picture begin, [queries, keys].
fn bias_base(picture: u32, head: u32) -> u32 {
    return ((picture % shape.kinds) * shape.heads + head) * shape.tokens * shape.tokens;
}

// The biases of a query and four keys from `key` on, those behind the last the last's.
fn bias_of_keys(base: u32, query: u32, key: u32) -> vec4<f32> {
    let row = base + query * shape.tokens;
    let last = shape.tokens - 1u;
    return vec4<f32>(
        bias[row + min(key, last)],
        bias[row + min(key + 1u, last)],
        bias[row + min(key + 2u, last)],
        bias[row + min(key + 3u, last)],
    );
}

// The same of four queries from `query` on and a key.
fn bias_of_queries(base: u32, query: u32, key: u32) -> vec4<f32> {
    let last = shape.tokens - 1u;
    return vec4<f32>(
        bias[base + min(query, last) * shape.tokens + key],
        bias[base + min(query + 1u, last) * shape.tokens + key],
        bias[base + min(query + 2u, last) * shape.tokens + key],
        bias[base + min(query + 3u, last) * shape.tokens + key],
    );
}
//: end

fn four_from(row: u32) -> vec4<u32> {
    return vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u);
}

