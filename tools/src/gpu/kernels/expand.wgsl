// RepAdapter's grouped B [d, hidden / groups] and its bias [d] as the dense, zero-padded and scaled [d, hidden] and [d]
// that the matrix product takes.

struct Shape {
    width: u32,
    hidden: u32,
    groups: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> weight: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> dense: array<f32>;
@group(0) @binding(4) var<storage, read_write> scaled_bias: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.width * shape.hidden) {
        return;
    }
    let row = i / shape.hidden;
    let unit = i % shape.hidden;
    let units_of_group = shape.hidden / shape.groups;
    let group = row / (shape.width / shape.groups);
    if (unit / units_of_group == group) {
        dense[i] = shape.scale * weight[row * units_of_group + unit % units_of_group];
    } else {
        dense[i] = 0.0;
    }
    if (unit == 0u) {
        scaled_bias[row] = shape.scale * bias[row];
    }
}
