//! Pictures of coloured shapes with their masks.

use std::fs;
use std::path::Path;

use edge_vit::Mask;
use image::{Rgb, RgbImage};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

/// The names of the classes.
pub(crate) const LABELS: [&str; 3] = ["ground", "disc", "square"];

/// A red disc on the left or the right and a blue square on the other side of a noisy ground, with the mask. `size` is width and
/// height, at least 32 each.
pub(crate) fn scene(size: [u32; 2], rng: &mut ChaCha8Rng) -> (RgbImage, Mask) {
    let [width, height] = size.map(|side| side as i32);
    let left = rng.random_bool(0.5);
    let mut at = |is_left: bool| {
        let x = rng.random_range(8..width / 2 - 7) + if is_left { 0 } else { width / 2 };
        (x, rng.random_range(8..height - 8))
    };
    let (disc, square) = (at(left), at(!left));
    let mut classes = Vec::with_capacity((width * height) as usize);
    let picture = RgbImage::from_fn(size[0], size[1], |x, y| {
        let from = |(cx, cy): (i32, i32)| (x as i32 - cx, y as i32 - cy);
        let ((dx, dy), (sx, sy)) = (from(disc), from(square));
        let class = match (dx * dx + dy * dy < 64, sx.abs() < 7 && sy.abs() < 7) {
            (true, _) => 1,
            (false, true) => 2,
            (false, false) => 0,
        };
        classes.push(class);
        match class {
            1 => Rgb([220, 60, 60]),
            2 => Rgb([60, 60, 220]),
            _ => Rgb([0; 3].map(|_| rng.random_range(90..160))),
        }
    });
    (picture, Mask::new(size[0], size[1], classes).unwrap())
}

/// Writes `count` scenes of `size` as `folder/images` and `folder/masks`.
pub(crate) fn scenes(folder: &Path, count: usize, size: [u32; 2], rng: &mut ChaCha8Rng) {
    for inner in ["images", "masks"] {
        fs::create_dir_all(folder.join(inner)).unwrap();
    }
    for number in 0..count {
        let (picture, mask) = scene(size, rng);
        picture.save(folder.join(format!("images/{number:02}.png"))).unwrap();
        fs::write(folder.join(format!("masks/{number:02}.png")), mask.to_png().unwrap()).unwrap();
    }
}
