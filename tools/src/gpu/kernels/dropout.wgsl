// x * factor(index), forward and backward alike.

struct Shape {
    count: u32,
    first_index: u32,
    seed: u32,
    stream: u32,
    rate: f32,
    kept: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.count) {
        return;
    }
    result[i] = x[i] * drop_factor(shape.rate, shape.kept, shape.seed, shape.stream, shape.first_index + i);
}
