// A loss scale as it lies on the device; overflow is not 0 where a gradient of the step was not finite.

struct Scaling {
    factor: f32,
    reciprocal: f32,
    good: u32,
    skipped: u32,
    overflow: u32,
}
