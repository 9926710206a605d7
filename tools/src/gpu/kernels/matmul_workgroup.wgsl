// A workgroup of DOWN x ACROSS invocations computes ROWS x COLS values of C from tiles of A and B that it shares in workgroup
// memory, DEPTH of k at a time: what a GPU is good at. Each invocation keeps ROW_QUADS x COL_QUADS blocks of 4 x 4 values in
// registers, DOWN and ACROSS blocks apart, so that neighbours read neighbouring lines of a tile. While a tile is multiplied,
// the next one is on its way from memory. Each value of C is summed up in the order of k, whatever the sizes.

// Lines of four values along a tile's side.
const ROW_LINES: u32 = DOWN * ROW_QUADS;
const COL_LINES: u32 = ACROSS * COL_QUADS;
const ROWS: u32 = 4u * ROW_LINES;
const COLS: u32 = 4u * COL_LINES;
// One line more than they hold keeps the rows of a tile off each other's memory banks.
const A_STRIDE: u32 = ROW_LINES + 1u;
const B_STRIDE: u32 = COL_LINES + 1u;
// Blocks of 4 of k by 4 of the side.
const A_BLOCKS: u32 = ROW_LINES * (DEPTH / 4u);
const B_BLOCKS: u32 = COL_LINES * (DEPTH / 4u);

// [DEPTH][STRIDE]: the rows of A, and the columns of B, are contiguous.
var<workgroup> a_tile: array<Line, DEPTH * A_STRIDE>;
var<workgroup> b_tile: array<Line, DEPTH * B_STRIDE>;

// A block: a line along the side for each of k.
struct Block {
    line0: Line,
    line1: Line,
    line2: Line,
    line3: Line,
}

// The block's place in a tile, along the side and along k, in lines of four: neighbours across what is contiguous.
fn a_place(block: u32) -> vec2<u32> {
//: if A_TRANSPOSED
    return vec2<u32>(block % ROW_LINES, block / ROW_LINES);
//: else
    return vec2<u32>(block / (DEPTH / 4u), block % (DEPTH / 4u));
//: end
}

fn b_place(block: u32) -> vec2<u32> {
//: if B_TRANSPOSED
    return vec2<u32>(block / (DEPTH / 4u), block % (DEPTH / 4u));
//: else
    return vec2<u32>(block % COL_LINES, block / COL_LINES);
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
    let turned = transpose(mat4x4<Value>(block.line0, block.line1, block.line2, block.line3));
    return Block(turned[0], turned[1], turned[2], turned[3]);
}

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let row_tiles = (shape.m + ROWS - 1u) / ROWS;
    let col_tiles = (shape.n + COLS - 1u) / COLS;
    let tile = workgroup_number(place);
    let chunk = tile / (row_tiles * col_tiles);
    // Padding workgroups of a folded dispatch compute nothing but pass the barriers.
    let k_begin = min(chunk * shape.k_chunk, shape.k);
    let k_end = min(k_begin + shape.k_chunk, shape.k);
    let tile_row = (tile % row_tiles) * ROWS;
    let tile_col = ((tile / row_tiles) % col_tiles) * COLS;
    let row_line = place.local / ACROSS;
    let col_line = place.local % ACROSS;
    // What this invocation fetches: of A's blocks, and then of B's, every WORKGROUP-th.
//: for j in FETCHES
    let number{j} = place.local + WORKGROUP * {j}u;
    let is_a{j} = number{j} < A_BLOCKS;
    let is_b{j} = !is_a{j} && number{j} < A_BLOCKS + B_BLOCKS;
    let at{j} = select(b_place(number{j} - A_BLOCKS), a_place(number{j}), is_a{j});
    var next{j}: Block;
    if (is_a{j}) {
        next{j} = a_block(tile_row + 4u * at{j}.x, k_begin + 4u * at{j}.y, k_end);
    } else if (is_b{j}) {
        next{j} = b_block(tile_col + 4u * at{j}.x, k_begin + 4u * at{j}.y, k_end);
    }
//: end
//: for r in ROW_QUADS
//: for s in 4
//: for c in COL_QUADS
    var sum{r}_{s}_{c} = vec4<f32>();
//: end
//: end
//: end
    for (var k = k_begin; k < k_end; k += DEPTH) {
        workgroupBarrier();
//: for j in FETCHES
        if (is_a{j}) {
//: for i in 4
            a_tile[(4u * at{j}.y + {i}u) * A_STRIDE + at{j}.x] = next{j}.line{i};
//: end
        } else if (is_b{j}) {
//: for i in 4
            b_tile[(4u * at{j}.y + {i}u) * B_STRIDE + at{j}.x] = next{j}.line{i};
//: end
        }
//: end
        workgroupBarrier();
        if (k + DEPTH < k_end) {
//: for j in FETCHES
            if (is_a{j}) {
                next{j} = a_block(tile_row + 4u * at{j}.x, k + DEPTH + 4u * at{j}.y, k_end);
            } else if (is_b{j}) {
                next{j} = b_block(tile_col + 4u * at{j}.x, k + DEPTH + 4u * at{j}.y, k_end);
            }
//: end
        }
//: for i in DEPTH
        {
//: for r in ROW_QUADS
            let a{r} = vec4<f32>(a_tile[{i}u * A_STRIDE + row_line + DOWN * {r}u]);
//: end
//: for c in COL_QUADS
            let b{c} = vec4<f32>(b_tile[{i}u * B_STRIDE + col_line + ACROSS * {c}u]);
//: end
//: for r in ROW_QUADS
//: for s in 4
//: for c in COL_QUADS
            sum{r}_{s}_{c} += a{r}[{s}] * b{c};
//: end
//: end
//: end
        }
//: end
    }
    if (chunk * shape.k_chunk < shape.k) {
//: for c in COL_QUADS
        let col{c} = tile_col + 4u * (col_line + ACROSS * {c}u);
        if (col{c} < shape.n) {
//: for r in ROW_QUADS
//: for s in 4
            store(chunk, tile_row + 4u * (row_line + DOWN * {r}u) + {s}u, col{c}, sum{r}_{s}_{c});
//: end
//: end
        }
//: end
    }
}
