// Columns of the rows of one matrix, put into the rows of another.

struct Shape {
    count: u32,
    width: u32,
    from_width: u32,
    from_start: u32,
    to_width: u32,
    to_start: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.count) {
        return;
    }
    let row = i / shape.width;
    let column = i % shape.width;
    result[row * shape.to_width + shape.to_start + column] = source[row * shape.from_width + shape.from_start + column];
}
