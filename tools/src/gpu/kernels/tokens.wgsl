// Moves tokens within pictures: those of the result before `at` stay, from there on token l is token l + shift of the
// source. Where a hole opens, the fill's tokens (learned) or zeros stand; outside of the source is zero. Inserts and drops
// tokens, takes the class token, and spreads its gradient.

struct Shape {
    lines: u32,
    width: u32,
    result_tokens: u32,
    source_tokens: u32,
    at: u32,
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
    let token = row % shape.result_tokens;
    if (token >= shape.at && i32(token - shape.at) < -shape.shift) {
//: if FILL
        result[i] = fill[(token - shape.at) * shape.width + channel];
//: else
        result[i] = V();
//: end
        return;
    }
    let moved = select(i32(token) + shape.shift, i32(token), token < shape.at);
    if (moved >= 0 && moved < i32(shape.source_tokens)) {
        result[i] = source[(picture * shape.source_tokens + u32(moved)) * shape.width + channel];
    } else {
        result[i] = V();
    }
}
