// The exact GELU, x (1 + erf(x / sqrt 2)) / 2, and its gradient.

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

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.lines) {
        return;
    }
    let value = x[i];
    let cdf = 0.5 + 0.5 * erf(value * 0.7071067811865476);
//: if BACKWARD
    let density = 0.3989422804014327 * exp(-0.5 * value * value);
    result[i] = out_grad[i] * (cdf + value * density);
//: else
    result[i] = value * cdf;
//: end
}
