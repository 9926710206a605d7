// Operands of C = A op(B) (+ bias) (+ addend), read four values along the contiguous dimension at a time.
//
// A is [m, k], or [k, m] with A_TRANSPOSED; B is [k, n], or [n, k] with B_TRANSPOSED (a Linear's weight).
// The k dimension may be cut into chunks; chunk i writes its own [m, n] behind the others.
// With HALF, B lies in float16 and A is rounded to it; products and sums are of float32 all the same.

struct Shape {
    m: u32,
    n: u32,
    k: u32,
    k_chunk: u32,
}

//: if HALF
alias Value = f16;
//: else
alias Value = f32;
//: end
alias Line = vec4<Value>;

@group(0) @binding(0) var<uniform> shape: Shape;
//: if A_VEC
@group(0) @binding(1) var<storage, read> a_values: array<vec4<f32>>;
//: else
@group(0) @binding(1) var<storage, read> a_values: array<f32>;
//: end
//: if B_VEC
@group(0) @binding(2) var<storage, read> b_values: array<Line>;
//: else
@group(0) @binding(2) var<storage, read> b_values: array<Value>;
//: end
//: if C_VEC
@group(0) @binding(3) var<storage, read_write> c_values: array<vec4<f32>>;
//: else
@group(0) @binding(3) var<storage, read_write> c_values: array<f32>;
//: end
//: if BIAS
@group(0) @binding(4) var<storage, read> bias: array<f32>;
//: end
//: if ADDEND
//: if C_VEC
@group(0) @binding(5) var<storage, read> addend: array<vec4<f32>>;
//: else
@group(0) @binding(5) var<storage, read> addend: array<f32>;
//: end
//: end

//: if HALF
const LARGEST_HALF: f32 = 65504.0;

// What float16 does not hold becomes infinite, whatever way the device rounds, so that a gradient that is too large is seen.
fn rounded(line: vec4<f32>) -> Line {
    let within = Line(clamp(line, vec4<f32>(-LARGEST_HALF), vec4<f32>(LARGEST_HALF)));
    return select(within * 2.0h, within, abs(line) <= vec4<f32>(LARGEST_HALF));
}
//: else
fn rounded(line: vec4<f32>) -> Line {
    return line;
}
//: end

// Four values of A from column `minor` on in row `major` of the stored matrix, whose rows hold `len`; zero behind it.
fn a_line(major: u32, minor: u32, len: u32) -> Line {
//: if A_VEC
    return rounded(a_values[(major * len + minor) / 4u]);
//: else
    let start = major * len;
    let last = len - 1u;
    let line = vec4<f32>(
        a_values[start + min(minor, last)],
        a_values[start + min(minor + 1u, last)],
        a_values[start + min(minor + 2u, last)],
        a_values[start + min(minor + 3u, last)],
    );
    return rounded(select(vec4<f32>(), line, vec4<u32>(minor) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(len)));
//: end
}

// As a_line, of B.
fn b_line(major: u32, minor: u32, len: u32) -> Line {
//: if B_VEC
    return b_values[(major * len + minor) / 4u];
//: else
    let start = major * len;
    let last = len - 1u;
    let line = Line(
        b_values[start + min(minor, last)],
        b_values[start + min(minor + 1u, last)],
        b_values[start + min(minor + 2u, last)],
        b_values[start + min(minor + 3u, last)],
    );
    return select(Line(), line, vec4<u32>(minor) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(len));
//: end
}

// Writes four columns of C in one row, with what is added to them.
fn store(chunk: u32, row: u32, col: u32, sum: vec4<f32>) {
    if (row >= shape.m) {
        return;
    }
    var value = sum;
//: if BIAS
    let last_col = shape.n - 1u;
    value += vec4<f32>(
        bias[min(col, last_col)],
        bias[min(col + 1u, last_col)],
        bias[min(col + 2u, last_col)],
        bias[min(col + 3u, last_col)],
    );
//: end
    let at = (chunk * shape.m + row) * shape.n + col;
//: if C_VEC
//: if ADDEND
    value += addend[at / 4u];
//: end
    c_values[at / 4u] = value;
//: else
    for (var i = 0u; i < min(4u, shape.n - col); i += 1u) {
//: if ADDEND
        c_values[at + i] = value[i] + addend[at + i];
//: else
        c_values[at + i] = value[i];
//: end
    }
//: end
}

