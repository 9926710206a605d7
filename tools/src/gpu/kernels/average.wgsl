// average += share * (value - average)

struct Shape {
    count: u32,
    share: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> value: array<f32>;
@group(0) @binding(2) var<storage, read_write> average: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.count) {
        return;
    }
    average[i] += shape.share * (value[i] - average[i]);
}
