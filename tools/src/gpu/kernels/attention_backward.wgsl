// What both kernels of the backward read and write beside qkv.

struct Row {
    // The largest score of the query's row, and one over the sum of the exponentials below it.
    largest: f32,
    share: f32,
    // The sum over keys of weight times its gradient, which is the row's sum of output times gradient.
    delta: f32,
}

//: if VEC
@group(0) @binding(2) var<storage, read> out_grad: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> qkv_grad: array<vec4<f32>>;
//: else
@group(0) @binding(2) var<storage, read> out_grad: array<f32>;
@group(0) @binding(3) var<storage, read_write> qkv_grad: array<f32>;
//: end
@group(0) @binding(4) var<storage, read_write> rows: array<Row>;

fn grad_line(row: u32, head: u32, line: u32) -> vec4<f32> {
    let start = (row * shape.heads + head) * shape.head_dim;
//: if VEC
    return out_grad[start / 4u + line];
//: else
    let last = shape.head_dim - 1u;
    let values = vec4<f32>(
        out_grad[start + min(4u * line, last)],
        out_grad[start + min(4u * line + 1u, last)],
        out_grad[start + min(4u * line + 2u, last)],
        out_grad[start + min(4u * line + 3u, last)],
    );
    return select(vec4<f32>(), values, vec4<u32>(4u * line) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(shape.head_dim));
//: end
}

fn store(row: u32, part: u32, head: u32, line: u32, value: vec4<f32>) {
    let start = ((row * 3u + part) * shape.heads + head) * shape.head_dim;
//: if VEC
    qkv_grad[start / 4u + line] = value;
//: else
    for (var i = 0u; i < min(4u, shape.head_dim - 4u * line); i += 1u) {
        qkv_grad[start + 4u * line + i] = value[i];
    }
//: end
}

