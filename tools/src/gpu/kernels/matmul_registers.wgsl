// Each invocation keeps 4 QUADS x 4 values of C in registers and streams A and B from memory: few, fat invocations and
// no barrier, which is what a driver that runs invocations as SIMD lanes of a CPU is good at. ACROSS invocations of a
// workgroup lie side by side in C, the others below.

const TILE_COLS: u32 = 4u * ACROSS;
const TILE_ROWS: u32 = 4u * QUADS * (WORKGROUP / ACROSS);

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let row_tiles = (shape.m + TILE_ROWS - 1u) / TILE_ROWS;
    let col_tiles = (shape.n + TILE_COLS - 1u) / TILE_COLS;
    let tile = workgroup_number(place);
    let row = (tile % row_tiles) * TILE_ROWS + place.local / ACROSS * 4u * QUADS;
    let col = (tile / row_tiles) % col_tiles * TILE_COLS + place.local % ACROSS * 4u;
    let chunk = tile / (row_tiles * col_tiles);
    let k_begin = chunk * shape.k_chunk;
    let k_end = min(k_begin + shape.k_chunk, shape.k);
    if (col >= shape.n || row >= shape.m || k_begin >= shape.k) {
        return;
    }
    let last_row = shape.m - 1u;
    let last_col = shape.n - 1u;
    let last_k = k_end - 1u;
//: for q in QUADS
//: for s in 4
    let row{q}_{s} = min(row + 4u * {q}u + {s}u, last_row);
    var sum{q}_{s} = vec4<f32>();
//: end
//: end
    for (var k = k_begin; k < k_end; k += 4u) {
//: if B_TRANSPOSED
//: for j in 4
        let b{j} = vec4<f32>(b_line(min(col + {j}u, last_col), k, shape.k));
//: end
//: else
//: for i in 4
        let line{i} = vec4<f32>(b_line(min(k + {i}u, last_k), col, shape.n));
//: end
        let b0 = vec4<f32>(line0.x, line1.x, line2.x, line3.x);
        let b1 = vec4<f32>(line0.y, line1.y, line2.y, line3.y);
        let b2 = vec4<f32>(line0.z, line1.z, line2.z, line3.z);
        let b3 = vec4<f32>(line0.w, line1.w, line2.w, line3.w);
//: end
//: if A_TRANSPOSED
        let inside = vec4<f32>(vec4<u32>(k) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(k_end));
//: for q in QUADS
        {
//: if A_VEC
            let at = min(row + 4u * {q}u, shape.m - 4u);
//: else
            let at = row + 4u * {q}u;
//: end
//: for i in 4
            let a{i} = vec4<f32>(a_line(min(k + {i}u, last_k), at, shape.m));
//: end
//: for s in 4
            {
                let a = vec4<f32>(a0[{s}], a1[{s}], a2[{s}], a3[{s}]) * inside;
                sum{q}_{s} += vec4<f32>(dot(a, b0), dot(a, b1), dot(a, b2), dot(a, b3));
            }
//: end
        }
//: end
//: else
//: for q in QUADS
//: for s in 4
        {
            let a = vec4<f32>(a_line(row{q}_{s}, k, shape.k));
            sum{q}_{s} += vec4<f32>(dot(a, b0), dot(a, b1), dot(a, b2), dot(a, b3));
        }
//: end
//: end
//: end
    }
//: for q in QUADS
//: for s in 4
    store(chunk, row + 4u * {q}u + {s}u, col, sum{q}_{s});
//: end
//: end
}
