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
}

@group(0) @binding(0) var<uniform> hyper: Hyper;
@group(0) @binding(1) var<storage, read> gradient: array<f32>;
@group(0) @binding(2) var<storage, read_write> value: array<f32>;
@group(0) @binding(3) var<storage, read_write> first: array<f32>;
@group(0) @binding(4) var<storage, read_write> second: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= hyper.count) {
        return;
    }
    let g = gradient[i];
    let m = hyper.beta1 * first[i] + hyper.rest1 * g;
    let v = hyper.beta2 * second[i] + hyper.rest2 * g * g;
    first[i] = m;
    second[i] = v;
    value[i] = value[i] * hyper.decay - hyper.rate * m / (sqrt(v) * hyper.correction + hyper.eps);
}
