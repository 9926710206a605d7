// One AdamW step as PyTorch defines it: decoupled decay, bias-corrected moments.

struct Hyper {
    count: u32,
    // 1 - lr weight_decay
    decay: f32,
    // lr / (1 - beta1^t)
    rate: f32,
    beta1: f32,
    beta2: f32,
    // 1 / sqrt(1 - beta2^t)
    correction: f32,
    eps: f32,
    // 1 - beta1 and 1 - beta2, rounded once
    rest1: f32,
    rest2: f32,
//: if SCALED
    lr: f32,
    step: u32,
    log_beta1: f32,
    log_beta2: f32,
//: end
}

@group(0) @binding(0) var<uniform> hyper: Hyper;
@group(0) @binding(1) var<storage, read> gradient: array<f32>;
@group(0) @binding(2) var<storage, read_write> value: array<f32>;
@group(0) @binding(3) var<storage, read_write> first: array<f32>;
@group(0) @binding(4) var<storage, read_write> second: array<f32>;
//: if SCALED
@group(0) @binding(5) var<storage, read> scaling: Scaling;
//: end

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= hyper.count) {
        return;
    }
//: if SCALED
    if (scaling.overflow != 0u) {
        return;
    }
    // Only steps that were taken count.
    let t = f32(hyper.step - scaling.skipped);
    let rate = hyper.lr / (1.0 - exp(t * hyper.log_beta1));
    let correction = inverseSqrt(1.0 - exp(t * hyper.log_beta2));
    let g = gradient[i] * scaling.reciprocal;
//: else
    let rate = hyper.rate;
    let correction = hyper.correction;
    let g = gradient[i];
//: end
    let m = hyper.beta1 * first[i] + hyper.rest1 * g;
    let v = hyper.beta2 * second[i] + hyper.rest2 * g * g;
    first[i] = m;
    second[i] = v;
    value[i] = value[i] * hyper.decay - rate * m / (sqrt(v) * correction + hyper.eps);
}
