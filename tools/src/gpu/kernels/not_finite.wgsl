// Whether a gradient holds anything that is not finite. Its bits are asked, because a driver may take comparisons for those of
// finite numbers.

struct Shape {
    count: u32,
}

struct Scaling {
    factor: f32,
    reciprocal: f32,
    good: u32,
    skipped: u32,
    overflow: atomic<u32>,
}

const EXPONENT: u32 = 0x7f800000u;

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> gradient: array<u32>;
@group(0) @binding(2) var<storage, read_write> scaling: Scaling;

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i < shape.count && (gradient[i] & EXPONENT) == EXPONENT) {
        atomicStore(&scaling.overflow, 1u);
    }
}
