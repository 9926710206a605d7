// The loss scale behind a step: half of it where a gradient was not finite, twice after PATIENCE steps without that.

struct Bounds {
    most: f32,
}

@group(0) @binding(0) var<uniform> bounds: Bounds;
@group(0) @binding(1) var<storage, read_write> scaling: Scaling;

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    if (invocation_number(place) > 0u) {
        return;
    }
    if (scaling.overflow != 0u) {
        scaling.factor = max(scaling.factor * 0.5, 1.0);
        scaling.good = 0u;
        scaling.skipped += 1u;
    } else {
        scaling.good += 1u;
        if (scaling.good == PATIENCE) {
            scaling.factor = min(scaling.factor * 2.0, bounds.most);
            scaling.good = 0u;
        }
    }
    scaling.reciprocal = 1.0 / scaling.factor;
    scaling.overflow = 0u;
}
