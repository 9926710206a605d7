// trunk + factor(picture) * branch, and the branch's gradient: factor(picture) * gradient.

struct Shape {
    lines: u32,
    lines_of_picture: u32,
    first_picture: u32,
    seed: u32,
    stream: u32,
    rate: f32,
    kept: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> branch: array<V>;
@group(0) @binding(2) var<storage, read_write> result: array<V>;
//: if TRUNK
@group(0) @binding(3) var<storage, read> trunk: array<V>;
//: end

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.lines) {
        return;
    }
    var value = branch[i];
//: if DROP
    let picture = shape.first_picture + i / shape.lines_of_picture;
    value *= drop_factor(shape.rate, shape.kept, shape.seed, shape.stream, picture);
//: end
//: if TRUNK
    value += trunk[i];
//: end
    result[i] = value;
}
