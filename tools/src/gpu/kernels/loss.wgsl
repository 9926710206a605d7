// Softmax cross-entropy with probabilities as targets: the loss of each row, a picture or a patch of one, and the gradient of
// the batch's mean loss.

struct Shape {
    rows: u32,
    classes: u32,
    // One over what all rows of the batch count, of which these may be a part.
    scale: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> targets: array<f32>;
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;
@group(0) @binding(4) var<storage, read_write> gradient: array<f32>;
//: if SCALED
// The loss scale and more.
@group(0) @binding(5) var<storage, read> scaling: array<f32>;
//: end

// One Newton step on exp(y) = x: some drivers' log is a polynomial of low degree.
fn log_of(x: f32) -> f32 {
    let y = log(x);
    return y + (x * exp(-y) - 1.0);
}

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let row = invocation_number(place);
    if (row >= shape.rows) {
        return;
    }
    let start = row * shape.classes;
    var largest = logits[start];
    for (var i = 1u; i < shape.classes; i += 1u) {
        largest = max(largest, logits[start + i]);
    }
    var sum = 0.0;
    var expected = 0.0;
    // How much the row counts.
    var total = 0.0;
    for (var i = 0u; i < shape.classes; i += 1u) {
        let logit = logits[start + i] - largest;
        sum += exp(logit);
        expected += targets[start + i] * logit;
        total += targets[start + i];
    }
    losses[row] = total * log_of(sum) - expected;
//: if SCALED
    let scale = shape.scale * scaling[0];
//: else
    let scale = shape.scale;
//: end
    for (var i = 0u; i < shape.classes; i += 1u) {
        let probability = exp(logits[start + i] - largest) / sum;
        gradient[start + i] = (probability * total - targets[start + i]) * scale;
    }
}
