// A workgroup of 8 x 8 invocations computes SIDE x SIDE values of C from tiles of A and B that it shares in workgroup
// memory, 16 of k at a time: what a GPU is good at. Each invocation keeps QUADS x QUADS blocks of 4 x 4 values in registers,
// 32 rows and columns apart, so that neighbours read neighbouring lines of a tile. While a tile is multiplied, the next one
// is on its way from memory.

const SIDE: u32 = 32u * QUADS;
const DEPTH: u32 = 16u;
// Lines of four values along a tile's side.
const LINES: u32 = 8u * QUADS;
// One line more than it holds keeps the rows of a tile off each other's memory banks.
const STRIDE: u32 = LINES + 1u;

// [DEPTH][STRIDE]: the rows of A, and the columns of B, are contiguous.
var<workgroup> a_tile: array<vec4<f32>, DEPTH * STRIDE>;
var<workgroup> b_tile: array<vec4<f32>, DEPTH * STRIDE>;

// 4 of k by 4 of the side: a line along the side for each of k.
struct Block {
    line0: vec4<f32>,
    line1: vec4<f32>,
    line2: vec4<f32>,
    line3: vec4<f32>,
}

// The block's place in a tile, along the side and along k, in lines of four: neighbours across what is contiguous.
fn place_across_k(block: u32) -> vec2<u32> {
    return vec2<u32>(block / (DEPTH / 4u), block % (DEPTH / 4u));
}

fn place_across_side(block: u32) -> vec2<u32> {
    return vec2<u32>(block % LINES, block / LINES);
}

fn a_place(block: u32) -> vec2<u32> {
//: if A_TRANSPOSED
    return place_across_side(block);
//: else
    return place_across_k(block);
//: end
}

fn b_place(block: u32) -> vec2<u32> {
//: if B_TRANSPOSED
    return place_across_k(block);
//: else
    return place_across_side(block);
//: end
}

// Zero beyond the rows of A and beyond k_end.
fn a_block(row: u32, k: u32, k_end: u32) -> Block {
    var block: Block;
//: for i in 4
//: if A_TRANSPOSED
    if (k + {i}u < k_end && row < shape.m) {
        block.line{i} = a_line(k + {i}u, row, shape.m);
    }
//: else
    if (k < k_end && row + {i}u < shape.m) {
        block.line{i} = a_line(row + {i}u, k, shape.k);
    }
//: end
//: end
//: if A_TRANSPOSED
    return block;
//: else
    return turned(block);
//: end
}

// As a_block, of the columns of B.
fn b_block(col: u32, k: u32, k_end: u32) -> Block {
    var block: Block;
//: for i in 4
//: if B_TRANSPOSED
    if (k < k_end && col + {i}u < shape.n) {
        block.line{i} = b_line(col + {i}u, k, shape.k);
    }
//: else
    if (k + {i}u < k_end && col < shape.n) {
        block.line{i} = b_line(k + {i}u, col, shape.n);
    }
//: end
//: end
//: if B_TRANSPOSED
    return turned(block);
//: else
    return block;
//: end
}

fn turned(block: Block) -> Block {
    let turned = transpose(mat4x4<f32>(block.line0, block.line1, block.line2, block.line3));
    return Block(turned[0], turned[1], turned[2], turned[3]);
}

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
    let row_line = place.local / 8u;
    let col_line = place.local % 8u;
    // What this invocation fetches: of the 4 LINES blocks of A, and then of B, every 64th.
//: for j in QUADS
    let fetches_a{j} = place.local + 64u * {j}u < 4u * LINES;
    let number{j} = (place.local + 64u * {j}u) % (4u * LINES);
    let at{j} = select(b_place(number{j}), a_place(number{j}), fetches_a{j});
    var next{j}: Block;
    if (fetches_a{j}) {
        next{j} = a_block(tile_row + 4u * at{j}.x, k_begin + 4u * at{j}.y, k_end);
    } else {
        next{j} = b_block(tile_col + 4u * at{j}.x, k_begin + 4u * at{j}.y, k_end);
    }
//: end
//: for r in QUADS
//: for s in 4
//: for c in QUADS
    var sum{r}_{s}_{c} = vec4<f32>();
//: end
//: end
//: end
    for (var k = k_begin; k < k_end; k += DEPTH) {
        workgroupBarrier();
//: for j in QUADS
        if (fetches_a{j}) {
//: for i in 4
            a_tile[(4u * at{j}.y + {i}u) * STRIDE + at{j}.x] = next{j}.line{i};
//: end
        } else {
//: for i in 4
            b_tile[(4u * at{j}.y + {i}u) * STRIDE + at{j}.x] = next{j}.line{i};
//: end
        }
//: end
        workgroupBarrier();
        if (k + DEPTH < k_end) {
//: for j in QUADS
            if (fetches_a{j}) {
                next{j} = a_block(tile_row + 4u * at{j}.x, k + DEPTH + 4u * at{j}.y, k_end);
            } else {
                next{j} = b_block(tile_col + 4u * at{j}.x, k + DEPTH + 4u * at{j}.y, k_end);
            }
//: end
        }
//: for i in 16
        {
//: for q in QUADS
            let a{q} = a_tile[{i}u * STRIDE + row_line + 8u * {q}u];
            let b{q} = b_tile[{i}u * STRIDE + col_line + 8u * {q}u];
//: end
//: for r in QUADS
//: for s in 4
//: for c in QUADS
            sum{r}_{s}_{c} += a{r}[{s}] * b{c};
//: end
//: end
//: end
        }
//: end
    }
    if (chunk * shape.k_chunk < shape.k) {
//: for c in QUADS
        if (tile_col + 4u * col_line + 32u * {c}u < shape.n) {
//: for r in QUADS
//: for s in 4
            store(chunk, tile_row + 4u * row_line + 32u * {r}u + {s}u, tile_col + 4u * col_line + 32u * {c}u, sum{r}_{s}_{c});
//: end
//: end
        }
//: end
    }
}
