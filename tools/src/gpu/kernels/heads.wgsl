// Queries and keys of length 1 a head, the queries times a factor, and the gradient of the input. Rows are q, k, v, each
// [heads, head_dim]; an invocation has one head of one part of one row.

struct Shape {
    count: u32,
    heads: u32,
    head_dim: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> scale: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<f32>;
//: if BACKWARD
@group(0) @binding(4) var<storage, read> out_grad: array<f32>;
//: end

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.count) {
        return;
    }
    let start = i * shape.head_dim;
    let end = start + shape.head_dim;
    let part = (i / shape.heads) % 3u;
    if (part == 2u) {
        for (var c = start; c < end; c += 1u) {
//: if BACKWARD
            result[c] = out_grad[c];
//: else
            result[c] = x[c];
//: end
        }
        return;
    }
    var square = 0.0;
    var along = 0.0;
    for (var c = start; c < end; c += 1u) {
        square += x[c] * x[c];
//: if BACKWARD
        along += x[c] * out_grad[c];
//: end
    }
    let length = max(sqrt(square), 1e-12);
    let factor = select(1.0, scale[i % shape.heads], part == 0u) / length;
    along /= length * length;
    for (var c = start; c < end; c += 1u) {
//: if BACKWARD
        result[c] = factor * (out_grad[c] - x[c] * along);
//: else
        result[c] = factor * x[c];
//: end
    }
}
