// Sums of the columns of [rows, width] over chunks of rows: [chunks, width].

struct Shape {
    rows: u32,
    width: u32,
    chunks: u32,
    rows_of_chunk: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<V>;
@group(0) @binding(2) var<storage, read_write> result: array<V>;

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.chunks * shape.width) {
        return;
    }
    let column = i % shape.width;
    let first = (i / shape.width) * shape.rows_of_chunk;
    var sum = V();
    for (var row = first; row < min(first + shape.rows_of_chunk, shape.rows); row += 1u) {
        sum += x[row * shape.width + column];
    }
    result[i] = sum;
}
