// Rows of a picture in another order: row i of the result is row `rows[i]` of the source.

struct Shape {
    lines: u32,
    width: u32,
    rows: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> source: array<V>;
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<storage, read_write> result: array<V>;

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.lines) {
        return;
    }
    let row = i / shape.width;
    let picture = row / shape.rows;
    let moved = picture * shape.rows + order[row % shape.rows];
    result[i] = source[moved * shape.width + i % shape.width];
}
