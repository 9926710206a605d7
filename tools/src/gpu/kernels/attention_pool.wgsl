// Attention of one learned query a head over a picture's tokens, stage by stage. kv is [pictures tokens, 2 width]: k, v,
// each [heads, head_dim]; scores, probabilities and their gradients are [pictures, heads, tokens].

struct Shape {
    count: u32,
    tokens: u32,
    heads: u32,
    head_dim: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
//: if SCORES
@group(0) @binding(1) var<storage, read> kv: array<f32>;
@group(0) @binding(2) var<storage, read> query: array<f32>;
//: end
//: if SOFTMAX
@group(0) @binding(1) var<storage, read> scores: array<f32>;
//: end
//: if MIX
@group(0) @binding(1) var<storage, read> kv: array<f32>;
@group(0) @binding(3) var<storage, read> probabilities: array<f32>;
//: end
//: if SLOPES
@group(0) @binding(1) var<storage, read> kv: array<f32>;
@group(0) @binding(3) var<storage, read> out_grad: array<f32>;
//: end
//: if SCORE_GRADS
@group(0) @binding(1) var<storage, read> probabilities: array<f32>;
@group(0) @binding(3) var<storage, read> slopes: array<f32>;
//: end
//: if GRADS
@group(0) @binding(1) var<storage, read> probabilities: array<f32>;
@group(0) @binding(2) var<storage, read> query: array<f32>;
@group(0) @binding(3) var<storage, read> out_grad: array<f32>;
@group(0) @binding(5) var<storage, read> score_grads: array<f32>;
//: end
@group(0) @binding(4) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.count) {
        return;
    }
    let width = shape.heads * shape.head_dim;
//: if SCORES
    let head = (i / shape.tokens) % shape.heads;
    let token = i / (shape.tokens * shape.heads) * shape.tokens + i % shape.tokens;
    var sum = 0.0;
    for (var c = 0u; c < shape.head_dim; c += 1u) {
        sum += query[head * shape.head_dim + c] * kv[2u * token * width + head * shape.head_dim + c];
    }
    result[i] = shape.scale * sum;
//: end
//: if SOFTMAX
    let start = i * shape.tokens;
    var largest = scores[start];
    for (var l = 1u; l < shape.tokens; l += 1u) {
        largest = max(largest, scores[start + l]);
    }
    var sum = 0.0;
    for (var l = 0u; l < shape.tokens; l += 1u) {
        sum += exp(scores[start + l] - largest);
    }
    for (var l = 0u; l < shape.tokens; l += 1u) {
        result[start + l] = exp(scores[start + l] - largest) / sum;
    }
//: end
//: if MIX
    let channel = i % width;
    let picture = i / width;
    let row = (picture * shape.heads + channel / shape.head_dim) * shape.tokens;
    var sum = 0.0;
    for (var l = 0u; l < shape.tokens; l += 1u) {
        sum += probabilities[row + l] * kv[(2u * (picture * shape.tokens + l) + 1u) * width + channel];
    }
    result[i] = sum;
//: end
//: if SLOPES
    let head = (i / shape.tokens) % shape.heads;
    let picture = i / (shape.tokens * shape.heads);
    let value = (2u * (picture * shape.tokens + i % shape.tokens) + 1u) * width + head * shape.head_dim;
    var sum = 0.0;
    for (var c = 0u; c < shape.head_dim; c += 1u) {
        sum += out_grad[picture * width + head * shape.head_dim + c] * kv[value + c];
    }
    result[i] = sum;
//: end
//: if SCORE_GRADS
    let start = i * shape.tokens;
    var mean = 0.0;
    for (var l = 0u; l < shape.tokens; l += 1u) {
        mean += probabilities[start + l] * slopes[start + l];
    }
    for (var l = 0u; l < shape.tokens; l += 1u) {
        result[start + l] = shape.scale * probabilities[start + l] * (slopes[start + l] - mean);
    }
//: end
//: if GRADS
    let channel = i % width;
    let token = i / (2u * width);
    let picture = token / shape.tokens;
    let row = (picture * shape.heads + channel / shape.head_dim) * shape.tokens + token % shape.tokens;
    if (i % (2u * width) < width) {
        result[i] = score_grads[row] * query[channel];
    } else {
        result[i] = probabilities[row] * out_grad[picture * width + channel];
    }
//: end
}
