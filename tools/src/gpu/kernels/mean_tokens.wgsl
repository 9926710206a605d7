// The mean over the tokens of a picture behind the first `skip`, and its gradient.

struct Shape {
    lines: u32,
    width: u32,
    tokens: u32,
    skip: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> source: array<V>;
@group(0) @binding(2) var<storage, read_write> result: array<V>;

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.lines) {
        return;
    }
    let channel = i % shape.width;
    let row = i / shape.width;
    let scale = 1.0 / f32(shape.tokens - shape.skip);
//: if BACKWARD
    let picture = row / shape.tokens;
    let inside = f32(row % shape.tokens >= shape.skip);
    result[i] = source[picture * shape.width + channel] * (scale * inside);
//: else
    var sum = V();
    for (var token = shape.skip; token < shape.tokens; token += 1u) {
        sum += source[(row * shape.tokens + token) * shape.width + channel];
    }
    result[i] = sum * scale;
//: end
}
