// LayerNorm over the last dimension, LANES invocations a row; the gradient of its input; or the products whose sums over
// the rows are the gradient of its weight. V is f32 or vec4<f32>; `width` counts values, `lines` counts V.

struct Shape {
    rows: u32,
    width: u32,
    lines: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<V>;
//: if FORWARD
@group(0) @binding(2) var<storage, read> weight: array<V>;
@group(0) @binding(3) var<storage, read> bias: array<V>;
//: else
//: if INPUT_GRAD
@group(0) @binding(2) var<storage, read> weight: array<V>;
//: end
@group(0) @binding(3) var<storage, read> out_grad: array<V>;
//: end
@group(0) @binding(4) var<storage, read_write> result: array<V>;

//: if SHARED
var<workgroup> partial: array<vec2<f32>, WORKGROUP>;
//: end

// The sum over the invocations of a row, in a fixed order.
fn row_sum(local: u32, value: vec2<f32>) -> vec2<f32> {
//: if SHARED
    partial[local] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (local < half) {
            partial[local] += partial[local + half];
        }
        workgroupBarrier();
    }
    let sum = partial[0];
    workgroupBarrier();
    return sum;
//: else
    return value;
//: end
}

fn total(value: V) -> f32 {
//: if VEC
    return (value.x + value.y) + (value.z + value.w);
//: else
    return value;
//: end
}

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
//: if SHARED
    let row = workgroup_number(place);
    let lane = place.local;
//: else
    let row = invocation_number(place);
    let lane = 0u;
//: end
    if (row >= shape.rows) {
        return;
    }
    let start = row * shape.lines;
    let scale = 1.0 / f32(shape.width);
    var sum = V();
    for (var i = lane; i < shape.lines; i += LANES) {
        sum += x[start + i];
    }
    let mean = row_sum(place.local, vec2<f32>(total(sum), 0.0)).x * scale;
    var squares = V();
    for (var i = lane; i < shape.lines; i += LANES) {
        let centred = x[start + i] - mean;
        squares += centred * centred;
    }
    let variance = row_sum(place.local, vec2<f32>(total(squares), 0.0)).x * scale;
    let inverse = 1.0 / sqrt(variance + shape.eps);
//: if FORWARD
    for (var i = lane; i < shape.lines; i += LANES) {
        result[start + i] = (x[start + i] - mean) * inverse * weight[i] + bias[i];
    }
//: else
//: if INPUT_GRAD
    var grads = V();
    var products = V();
    for (var i = lane; i < shape.lines; i += LANES) {
        let grad = out_grad[start + i] * weight[i];
        grads += grad;
        products += grad * ((x[start + i] - mean) * inverse);
    }
    let means = row_sum(place.local, vec2<f32>(total(grads), total(products))) * scale;
    for (var i = lane; i < shape.lines; i += LANES) {
        let normed = (x[start + i] - mean) * inverse;
        result[start + i] = (out_grad[start + i] * weight[i] - means.x - normed * means.y) * inverse;
    }
//: else
    for (var i = lane; i < shape.lines; i += LANES) {
        result[start + i] = out_grad[start + i] * ((x[start + i] - mean) * inverse);
    }
//: end
//: end
}
