// ConvNeXt V2's global response normalisation, stage by stage. With g the length of a channel over a picture's map and m the
// mean of g over channels plus 1e-6: y = x (1 + weight g / m) + bias. x is [pictures, places, dim]; lengths, slopes and pulls
// are [pictures, dim].

struct Shape {
    count: u32,
    places: u32,
    dim: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
//: if LENGTHS
@group(0) @binding(1) var<storage, read> x: array<f32>;
//: end
//: if SHARES
@group(0) @binding(1) var<storage, read> lengths: array<f32>;
//: end
//: if APPLY
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> shares: array<f32>;
@group(0) @binding(4) var<storage, read> weight: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
//: end
//: if SLOPES
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> out_grad: array<f32>;
@group(0) @binding(4) var<storage, read> weight: array<f32>;
//: end
//: if PULLS
@group(0) @binding(1) var<storage, read> lengths: array<f32>;
@group(0) @binding(2) var<storage, read> slopes: array<f32>;
//: end
//: if INPUT_GRAD
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> shares: array<f32>;
@group(0) @binding(4) var<storage, read> weight: array<f32>;
@group(0) @binding(5) var<storage, read> out_grad: array<f32>;
@group(0) @binding(6) var<storage, read> pulls: array<f32>;
//: end
//: if WEIGHT_PRODUCTS
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> shares: array<f32>;
@group(0) @binding(5) var<storage, read> out_grad: array<f32>;
//: end
@group(0) @binding(3) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.count) {
        return;
    }
    let channel = i % shape.dim;
//: if LENGTHS
    let start = i / shape.dim * shape.places;
    var sum = 0.0;
    for (var l = 0u; l < shape.places; l += 1u) {
        let value = x[(start + l) * shape.dim + channel];
        sum += value * value;
    }
    result[i] = sqrt(sum);
//: end
//: if SHARES
    let start = i * shape.dim;
    var sum = 0.0;
    for (var c = 0u; c < shape.dim; c += 1u) {
        sum += lengths[start + c];
    }
    let mean = sum / f32(shape.dim) + 1e-6;
    for (var c = 0u; c < shape.dim; c += 1u) {
        result[start + c] = lengths[start + c] / mean;
    }
//: end
//: if APPLY
    let share = shares[i / (shape.places * shape.dim) * shape.dim + channel];
    result[i] = x[i] * (1.0 + weight[channel] * share) + bias[channel];
//: end
//: if SLOPES
    let start = i / shape.dim * shape.places;
    var sum = 0.0;
    for (var l = 0u; l < shape.places; l += 1u) {
        let at = (start + l) * shape.dim + channel;
        sum += x[at] * out_grad[at];
    }
    result[i] = weight[channel] * sum;
//: end
//: if PULLS
    let start = i * shape.dim;
    var sum = 0.0;
    var along = 0.0;
    for (var c = 0u; c < shape.dim; c += 1u) {
        sum += lengths[start + c];
        along += slopes[start + c] * lengths[start + c];
    }
    let mean = sum / f32(shape.dim) + 1e-6;
    let shared_part = along / (f32(shape.dim) * mean * mean);
    for (var c = 0u; c < shape.dim; c += 1u) {
        let length = lengths[start + c];
        result[start + c] = select(0.0, (slopes[start + c] / mean - shared_part) / length, length > 0.0);
    }
//: end
//: if INPUT_GRAD
    let at = i / (shape.places * shape.dim) * shape.dim + channel;
    result[i] = out_grad[i] * (1.0 + weight[channel] * shares[at]) + x[i] * pulls[at];
//: end
//: if WEIGHT_PRODUCTS
    let share = shares[i / (shape.places * shape.dim) * shape.dim + channel];
    result[i] = out_grad[i] * x[i] * share;
//: end
}
