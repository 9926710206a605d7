// A convolution of each channel by itself, stride 1, zeros around the map [height, width, dim]; the weight is [dim, k k].
// The gradient of the input is the same with the kernel turned around and without bias. That of the weight sums over places:
// an invocation has one tap of one channel, over one part of the pictures' rows.

struct Shape {
    count: u32,
    height: u32,
    width: u32,
    dim: u32,
    side: u32,
    // Rows of all pictures' maps, and rows of a part.
    rows: u32,
    part: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<f32>;
//: if WEIGHT
@group(0) @binding(2) var<storage, read> out_grad: array<f32>;
//: else
@group(0) @binding(2) var<storage, read> weight: array<f32>;
//: end
@group(0) @binding(3) var<storage, read_write> result: array<f32>;
//: if FORWARD
@group(0) @binding(4) var<storage, read> bias: array<f32>;
//: end

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.count) {
        return;
    }
    let around = i32(shape.side / 2u);
    let taps = shape.side * shape.side;
//: if WEIGHT
    let tap = i % taps;
    let channel = (i / taps) % shape.dim;
    let first = i / (taps * shape.dim) * shape.part;
    let down = i32(tap / shape.side) - around;
    let right = i32(tap % shape.side) - around;
    var sum = 0.0;
    for (var row = first; row < min(first + shape.part, shape.rows); row += 1u) {
        let y = i32(row % shape.height) + down;
        if (y < 0 || y >= i32(shape.height)) {
            continue;
        }
        let source = u32(i32(row) + down) * shape.width;
        for (var column = max(0, -right); column < i32(shape.width) - max(0, right); column += 1) {
            let read = source + u32(column + right);
            let written = row * shape.width + u32(column);
            sum += x[read * shape.dim + channel] * out_grad[written * shape.dim + channel];
        }
    }
    result[i] = sum;
//: else
    let channel = i % shape.dim;
    let at = i / shape.dim;
    let column = i32(at % shape.width);
    let row = at / shape.width;
    let y = i32(row % shape.height);
    let top = row - row % shape.height;
//: if FORWARD
    var sum = bias[channel];
//: else
    var sum = 0.0;
//: end
    for (var tap_y = max(0, around - y); tap_y < min(i32(shape.side), i32(shape.height) + around - y); tap_y += 1) {
        let source = (top + u32(y + tap_y - around)) * shape.width;
        for (var tap_x = max(0, around - column); tap_x < min(i32(shape.side), i32(shape.width) + around - column); tap_x += 1) {
//: if FORWARD
            let tap = u32(tap_y) * shape.side + u32(tap_x);
//: else
            let tap = taps - 1u - (u32(tap_y) * shape.side + u32(tap_x));
//: end
            sum += weight[channel * taps + tap] * x[(source + u32(column + tap_x - around)) * shape.dim + channel];
        }
    }
    result[i] = sum;
//: end
}
