// x * p (LayerScale and its gradient) or x + p (position embedding), where p repeats every `period` lines.

struct Shape {
    lines: u32,
    period: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read> p: array<V>;
@group(0) @binding(3) var<storage, read_write> result: array<V>;

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.lines) {
        return;
    }
//: if ADD
    result[i] = x[i] + p[i % shape.period];
//: else
    result[i] = x[i] * p[i % shape.period];
//: end
}
