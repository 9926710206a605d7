// A workgroup of 16 x 16 invocations computes 64 x 64 values of C, 4 x 4 each, from tiles of A and B that it shares in
// workgroup memory, 16 of k at a time: what a GPU is good at.

const SIDE: u32 = 64u;
const DEPTH: u32 = 16u;

// [DEPTH][SIDE]: the rows of A, and the columns of B, are contiguous.
var<workgroup> a_tile: array<f32, 1024>;
var<workgroup> b_tile: array<f32, 1024>;

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let row_tiles = (shape.m + SIDE - 1u) / SIDE;
    let col_tiles = (shape.n + SIDE - 1u) / SIDE;
    let tile = workgroup_number(place);
    let chunk = tile / (row_tiles * col_tiles);
    // Padding workgroups of a folded dispatch compute nothing but pass the barriers.
    let k_begin = min(chunk * shape.k_chunk, shape.k);
    let k_end = min(k_begin + shape.k_chunk, shape.k);
    let tile_row = (tile % row_tiles) * SIDE;
    let tile_col = ((tile / row_tiles) % col_tiles) * SIDE;
    let row = (place.local / 16u) * 4u;
    let col = (place.local % 16u) * 4u;
    // The line that this invocation fetches: across k where k is contiguous, across the side where that is.
    let along_side = place.local / 4u;
    let along_k = (place.local % 4u) * 4u;
    let depth = place.local / 16u;
    let side = (place.local % 16u) * 4u;
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    for (var k = k_begin; k < k_end; k += DEPTH) {
//: if A_TRANSPOSED
        var a = vec4<f32>();
        if (k + depth < k_end && tile_row + side < shape.m) {
            a = a_line(k + depth, tile_row + side, shape.m);
        }
//: for i in 4
        a_tile[depth * SIDE + side + {i}u] = a[{i}];
//: end
//: else
        var a = vec4<f32>();
        if (k + along_k < k_end && tile_row + along_side < shape.m) {
            a = a_line(tile_row + along_side, k + along_k, shape.k);
        }
//: for i in 4
        a_tile[(along_k + {i}u) * SIDE + along_side] = a[{i}];
//: end
//: end
        var b = vec4<f32>();
//: if B_TRANSPOSED
        if (k + along_k < k_end && tile_col + along_side < shape.n) {
            b = b_line(tile_col + along_side, k + along_k, shape.k);
        }
//: for i in 4
        b_tile[(along_k + {i}u) * SIDE + along_side] = b[{i}];
//: end
//: else
        if (k + depth < k_end && tile_col + side < shape.n) {
            b = b_line(k + depth, tile_col + side, shape.n);
        }
//: for i in 4
        b_tile[depth * SIDE + side + {i}u] = b[{i}];
//: end
//: end
        workgroupBarrier();
        for (var i = 0u; i < DEPTH; i += 1u) {
            let at = i * SIDE;
            let line = vec4<f32>(
                b_tile[at + col],
                b_tile[at + col + 1u],
                b_tile[at + col + 2u],
                b_tile[at + col + 3u],
            );
            sum0 += a_tile[at + row] * line;
            sum1 += a_tile[at + row + 1u] * line;
            sum2 += a_tile[at + row + 2u] * line;
            sum3 += a_tile[at + row + 3u] * line;
        }
        workgroupBarrier();
    }
    if (chunk * shape.k_chunk < shape.k && tile_col + col < shape.n) {
//: for r in 4
        store(chunk, tile_row + row + {r}u, tile_col + col, sum{r});
//: end
    }
}
