// Pictures [C, H, W] as rows of patches, [(H/p)(W/p), C p p], so that the patch embedding is a matrix product.

struct Shape {
    count: u32,
    channels: u32,
    height: u32,
    width: u32,
    side: u32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> pixels: array<f32>;
@group(0) @binding(2) var<storage, read_write> patches: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let i = invocation_number(place);
    if (i >= shape.count) {
        return;
    }
    let p = shape.side;
    let across = shape.width / p;
    let x = i % p;
    let y = (i / p) % p;
    let channel = (i / (p * p)) % shape.channels;
    let place_of_patch = i / (p * p * shape.channels);
    let column = place_of_patch % across;
    let row = (place_of_patch / across) % (shape.height / p);
    let picture = place_of_patch / (across * (shape.height / p));
    patches[i] = pixels[((picture * shape.channels + channel) * shape.height + row * p + y) * shape.width + column * p + x];
}
