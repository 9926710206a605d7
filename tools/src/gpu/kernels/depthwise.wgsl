// A convolution of each channel by itself, zeros around the map [height, width, dim]; the weight is [dim, k k], the output
// [down, across, dim]. The gradient of a value of the input sums over the places that read it, that of the weight over all places:
// an invocation has one tap of one channel, over one part of the pictures' rows.

struct Shape {
    count: u32,
    height: u32,
    width: u32,
    dim: u32,
    side: u32,
    // Rows of all pictures' outputs, and rows of a part.
    rows: u32,
    part: u32,
    stride: u32,
    down: u32,
    across: u32,
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
    let step = i32(shape.stride);
    for (var row = first; row < min(first + shape.part, shape.rows); row += 1u) {
        let y = i32(row % shape.down) * step + down;
        if (y < 0 || y >= i32(shape.height)) {
            continue;
        }
        let source = (row / shape.down * shape.height + u32(y)) * shape.width;
        for (var column = 0; column < i32(shape.across); column += 1) {
            let x_read = column * step + right;
            if (x_read < 0 || x_read >= i32(shape.width)) {
                continue;
            }
            let written = row * shape.across + u32(column);
            sum += x[(source + u32(x_read)) * shape.dim + channel] * out_grad[written * shape.dim + channel];
        }
    }
    result[i] = sum;
//: else
    let channel = i % shape.dim;
    let at = i / shape.dim;
    let step = i32(shape.stride);
//: if FORWARD
    let column = i32(at % shape.across) * step - around;
    let row = at / shape.across;
    let y = i32(row % shape.down) * step - around;
    let top = row / shape.down * shape.height;
    var sum = bias[channel];
    for (var tap_y = max(0, -y); tap_y < min(i32(shape.side), i32(shape.height) - y); tap_y += 1) {
        let source = (top + u32(y + tap_y)) * shape.width;
        for (var tap_x = max(0, -column); tap_x < min(i32(shape.side), i32(shape.width) - column); tap_x += 1) {
            let tap = u32(tap_y) * shape.side + u32(tap_x);
            sum += weight[channel * taps + tap] * x[(source + u32(column + tap_x)) * shape.dim + channel];
        }
    }
//: else
    let column = i32(at % shape.width) + around;
    let row = at / shape.width;
    let y = i32(row % shape.height) + around;
    let top = row / shape.height * shape.down;
    var sum = 0.0;
    for (var tap_y = 0; tap_y < min(i32(shape.side), y + 1); tap_y += 1) {
        let from_y = (y - tap_y) / step;
        if (from_y * step != y - tap_y || from_y >= i32(shape.down)) {
            continue;
        }
        let source = (top + u32(from_y)) * shape.across;
        for (var tap_x = 0; tap_x < min(i32(shape.side), column + 1); tap_x += 1) {
            let from_x = (column - tap_x) / step;
            if (from_x * step != column - tap_x || from_x >= i32(shape.across)) {
                continue;
            }
            let tap = u32(tap_y) * shape.side + u32(tap_x);
            sum += weight[channel * taps + tap] * x[(source + u32(from_x)) * shape.dim + channel];
        }
    }
//: end
    result[i] = sum;
//: end
}
