// Moves tokens within pictures: token l of the result is token l + shift of the source where there is one, and the fill
// (a learned token, or zero) elsewhere. Prepends and drops the class token, takes it, and spreads its gradient.

struct Shape {
    lines: u32,
    width: u32,
    result_tokens: u32,
    source_tokens: u32,
    shift: i32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> source: array<V>;
@group(0) @binding(2) var<storage, read_write> result: array<V>;
//: if FILL
@group(0) @binding(3) var<storage, read> fill: array<V>;
//: end

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.lines) {
        return;
    }
    let channel = i % shape.width;
    let row = i / shape.width;
    let picture = row / shape.result_tokens;
    let token = i32(row % shape.result_tokens) + shape.shift;
    if (token >= 0 && token < i32(shape.source_tokens)) {
        result[i] = source[(picture * shape.source_tokens + u32(token)) * shape.width + channel];
    } else {
//: if FILL
        result[i] = fill[channel];
//: else
        result[i] = V();
//: end
    }
}
