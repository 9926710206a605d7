// A nonlinearity on each value, or the gradient of its input. The exact GELU is x (1 + erf(x / sqrt 2)) / 2; the other two
// GELUs and SiLU are x sigmoid(u): u = 1.702 x (quick), u = 2 sqrt(2 / pi) (x + 0.044715 x^3) (with the hyperbolic tangent),
// u = x (SiLU).

struct Shape {
    lines: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
//: if BACKWARD
@group(0) @binding(2) var<storage, read> out_grad: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> result: array<vec4<f32>>;
//: else
@group(0) @binding(2) var<storage, read_write> result: array<vec4<f32>>;
//: end

//: if GELU
// A rational approximation on [-4, 4], where 1 - |erf| falls below float32's resolution; absolute error below 5e-7.
fn erf(value: vec4<f32>) -> vec4<f32> {
    let t = clamp(value, vec4<f32>(-4.0), vec4<f32>(4.0));
    let s = t * t;
    var p = vec4<f32>(-2.72614225801306e-10);
    p = p * s + 2.77068142495902e-08;
    p = p * s - 2.10102402082508e-06;
    p = p * s - 5.69250639462346e-05;
    p = p * s - 7.34990630326855e-04;
    p = p * s - 2.95459980854025e-03;
    p = p * s - 1.60960333262415e-02;
    var q = vec4<f32>(-1.45660718464996e-05);
    q = q * s - 2.13374055278905e-04;
    q = q * s - 1.68282697438203e-03;
    q = q * s - 7.37332916720468e-03;
    q = q * s - 1.42647390514189e-02;
    return t * p / q;
}
//: end

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.lines) {
        return;
    }
    let value = x[i];
//: if GELU
    let gate = 0.5 + 0.5 * erf(value * 0.7071067811865476);
    let slope = gate + value * (0.3989422804014327 * exp(-0.5 * value * value));
//: end
//: if GELU_TANH
    let square = value * value;
    let gate = 1.0 / (1.0 + exp(-1.5957691216057308 * value * (1.0 + 0.044715 * square)));
    let slope = gate + value * 1.5957691216057308 * (1.0 + 0.134145 * square) * gate * (1.0 - gate);
//: end
//: if QUICK_GELU
    let gate = 1.0 / (1.0 + exp(-1.702 * value));
    let slope = gate + 1.702 * value * gate * (1.0 - gate);
//: end
//: if SILU
    let gate = 1.0 / (1.0 + exp(-value));
    let slope = gate + value * gate * (1.0 - gate);
//: end
//: if RELU
    let gate = select(vec4<f32>(), vec4<f32>(1.0), value > vec4<f32>());
    let slope = gate;
//: end
//: if BACKWARD
    result[i] = out_grad[i] * slope;
//: else
    result[i] = value * gate;
//: end
}
