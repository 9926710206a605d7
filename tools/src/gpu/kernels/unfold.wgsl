// The places that a kernel covers as the rows of a matrix, [down across, channels side side], zeros beyond the input, so that a
// convolution is a matrix product; or the gradient of the input, a value of which stands in several rows.

struct Shape {
    count: u32,
    channels: u32,
    height: u32,
    width: u32,
    side: u32,
    stride: u32,
    around: u32,
    down: u32,
    across: u32,
    // Channels come first in pixels and last in maps: the steps from channel to channel and from place to place.
    by_channel: u32,
    by_place: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.count) {
        return;
    }
    let taps = shape.side * shape.side;
    let len = shape.channels * shape.height * shape.width;
//: if BACKWARD
    let picture = i / len;
    let at = i % len;
    let channel = (at / shape.by_channel) % shape.channels;
    let spot = (at / shape.by_place) % (shape.height * shape.width);
    let y = spot / shape.width + shape.around;
    let x = spot % shape.width + shape.around;
    var sum = 0.0;
    for (var tap_y = 0u; tap_y < min(shape.side, y + 1u); tap_y += 1u) {
        let row = (y - tap_y) / shape.stride;
        if (row * shape.stride != y - tap_y || row >= shape.down) {
            continue;
        }
        for (var tap_x = 0u; tap_x < min(shape.side, x + 1u); tap_x += 1u) {
            let column = (x - tap_x) / shape.stride;
            if (column * shape.stride != x - tap_x || column >= shape.across) {
                continue;
            }
            let covered = (picture * shape.down + row) * shape.across + column;
            sum += source[(covered * shape.channels + channel) * taps + tap_y * shape.side + tap_x];
        }
    }
    result[i] = sum;
//: else
    let tap = i % taps;
    let channel = (i / taps) % shape.channels;
    let covered = i / (taps * shape.channels);
    let column = covered % shape.across;
    let row = (covered / shape.across) % shape.down;
    let picture = covered / (shape.across * shape.down);
    let y = row * shape.stride + tap / shape.side;
    let x = column * shape.stride + tap % shape.side;
    var value = 0.0;
    if (y >= shape.around && y < shape.height + shape.around && x >= shape.around && x < shape.width + shape.around) {
        let spot = (y - shape.around) * shape.width + x - shape.around;
        value = source[picture * len + channel * shape.by_channel + spot * shape.by_place];
    }
    result[i] = value;
//: end
}
