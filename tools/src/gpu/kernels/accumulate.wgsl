// gradient += scale * the sum over chunks of a [chunks, rows, stride] matrix's block: row r gives `columns` values from
// column (r / rows_of_group) * columns on (the diagonal blocks of a grouped weight; all of the row with one group).

struct Shape {
    count: u32,
    chunks: u32,
    chunk_size: u32,
    columns: u32,
    stride: u32,
    rows_of_group: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> parts: array<f32>;
@group(0) @binding(2) var<storage, read_write> gradient: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.count) {
        return;
    }
    let row = i / shape.columns;
    let at = row * shape.stride + (row / shape.rows_of_group) * shape.columns + i % shape.columns;
    var sum = 0.0;
    for (var chunk = 0u; chunk < shape.chunks; chunk += 1u) {
        sum += parts[chunk * shape.chunk_size + at];
    }
    gradient[i] += shape.scale * sum;
}
