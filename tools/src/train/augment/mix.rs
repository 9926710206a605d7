//! timm's `Mixup` in mode `batch`: all pictures of a batch are mixed with those of the batch in reverse, by mixup (Zhang et
//! al. 2018) or by cutmix (Yun et al. 2019), and so are their targets.

use rand::Rng;
use rand_distr::{Beta, Distribution as _};
use serde::Serialize;

/// How batches are mixed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mix {
    /// Both parameters of the beta distribution that mixup's share is drawn from; 0 for no mixup.
    pub mixup: f64,
    /// The same of cutmix; 0 for no cutmix.
    pub cutmix: f64,
    /// Probability that a batch is mixed.
    pub probability: f64,
    /// Probability of cutmix where mixup is on as well.
    pub switch_probability: f64,
}

impl Default for Mix {
    fn default() -> Self {
        Self { mixup: 0.0, cutmix: 0.0, probability: 1.0, switch_probability: 0.5 }
    }
}

/// What is done to one batch.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Drawn {
    Nothing,
    /// The share of the pictures themselves.
    Mixup(f32),
    /// Rows and columns that come from the other pictures.
    Cutmix {
        rows: [usize; 2],
        columns: [usize; 2],
    },
}

impl Mix {
    /// Whether anything is ever mixed.
    pub fn is_on(&self) -> bool {
        self.mixup > 0.0 || self.cutmix > 0.0
    }

    /// Mixes `pixels` `[pictures, channels, height, width]` and `targets` `[pictures, classes]`.
    pub(crate) fn apply(
        &self,
        pixels: &mut [f32],
        targets: &mut [f32],
        pictures: usize,
        size: [usize; 2],
        rng: &mut impl Rng,
    ) {
        let own = match self.draw(size, rng) {
            Drawn::Nothing => return,
            Drawn::Mixup(own) => {
                blend(pixels, pictures, own);
                own
            }
            Drawn::Cutmix { rows, columns } => {
                exchange(pixels, pictures, size, rows, columns);
                let cut = (rows[1] - rows[0]) * (columns[1] - columns[0]);
                (1.0 - cut as f64 / (size[0] * size[1]) as f64) as f32
            }
        };
        blend(targets, pictures, own);
    }

    fn draw(&self, size: [usize; 2], rng: &mut impl Rng) -> Drawn {
        if !self.is_on() || rng.random::<f64>() >= self.probability {
            return Drawn::Nothing;
        }
        let cutmix = self.mixup <= 0.0 || (self.cutmix > 0.0 && rng.random::<f64>() < self.switch_probability);
        let alpha = if cutmix { self.cutmix } else { self.mixup };
        // Both parameters are above 0.
        let own = Beta::new(alpha, alpha).map_or(1.0, |beta| beta.sample(rng));
        if !cutmix {
            return Drawn::Mixup(own as f32);
        }
        let share = (1.0 - own).sqrt();
        let [rows, columns] = size.map(|side| {
            let (cut, centre) = ((side as f64 * share) as usize, rng.random_range(0..side));
            [centre.saturating_sub(cut / 2), (centre + cut.div_ceil(2)).min(side)]
        });
        Drawn::Cutmix { rows, columns }
    }
}

/// `own` of each row and the rest of the row at the same place from the end.
fn blend(values: &mut [f32], rows: usize, own: f32) {
    let len = values.len() / rows.max(1);
    for_pairs(values, rows, len, |first, second| {
        let (a, b) = (*first, *second);
        *first = a * own + b * (1.0 - own);
        *second = b * own + a * (1.0 - own);
    });
}

/// Exchanges a rectangle of all channels.
fn exchange(pixels: &mut [f32], pictures: usize, [height, width]: [usize; 2], rows: [usize; 2], columns: [usize; 2]) {
    let len = pixels.len() / pictures.max(1);
    let mut at = 0;
    for_pairs(pixels, pictures, len, |first, second| {
        let (row, column) = (at / width % height, at % width);
        if (rows[0]..rows[1]).contains(&row) && (columns[0]..columns[1]).contains(&column) {
            std::mem::swap(first, second);
        }
        at = (at + 1) % len;
    });
}

/// Hands each value of a row out with that of its partner from the end, once a pair of rows; the middle one is its own.
fn for_pairs(values: &mut [f32], rows: usize, len: usize, mut both: impl FnMut(&mut f32, &mut f32)) {
    let (first, second) = values.split_at_mut(rows / 2 * len);
    let partners = second.chunks_exact_mut(len.max(1)).rev();
    for (row, partner) in first.chunks_exact_mut(len.max(1)).zip(partners) {
        row.iter_mut().zip(partner).for_each(|(a, b)| both(a, b));
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::engine::targets;

    /// Pictures of one number each, `[5, 3, 6, 4]`.
    fn batch() -> (Vec<f32>, Vec<f32>) {
        let pixels = (0..5).flat_map(|picture| vec![picture as f32; 72]).collect();
        (pixels, targets(&[0, 1, 2, 1, 0], 3, 0.3))
    }

    fn mixed(mix: Mix, seed: u64) -> (Vec<f32>, Vec<f32>) {
        let (mut pixels, mut targets) = batch();
        mix.apply(&mut pixels, &mut targets, 5, [6, 4], &mut ChaCha8Rng::seed_from_u64(seed));
        (pixels, targets)
    }

    #[test]
    fn mixup_blends_pictures_and_targets_by_one_share() {
        for seed in 0..20 {
            let (pixels, mixed_targets) = mixed(Mix { mixup: 0.8, ..Mix::default() }, seed);
            let own = 1.0 - pixels[0] / 4.0;
            assert!((0.0..=1.0).contains(&own));
            for (picture, row) in pixels.chunks(72).enumerate() {
                let expected = own * picture as f32 + (1.0 - own) * (4 - picture) as f32;
                assert!(row.iter().all(|value| (value - expected).abs() < 1e-5), "{picture}: {row:?}");
            }
            let plain = targets(&[0, 1, 2, 1, 0], 3, 0.3);
            for (at, target) in mixed_targets.iter().enumerate() {
                let partner = plain[3 * (4 - at / 3) + at % 3];
                assert!((target - (own * plain[at] + (1.0 - own) * partner)).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn cutmix_exchanges_a_rectangle_and_weighs_targets_by_its_area() {
        let mut some = 0;
        for seed in 0..20 {
            let (pixels, mixed_targets) = mixed(Mix { cutmix: 1.0, ..Mix::default() }, seed);
            let foreign: Vec<usize> = (0..24).filter(|&at| pixels[at] != 0.0).collect();
            assert!(foreign.iter().all(|&at| pixels[at] == 4.0 && pixels[24 + at] == 4.0 && pixels[48 + at] == 4.0));
            assert!(pixels[144..216].iter().all(|value| *value == 2.0), "the middle picture is its own partner");
            let own = 1.0 - foreign.len() as f32 / 24.0;
            // Pictures 1 and 3 have one class; 0 and 4 as well: targets of the second row stay.
            let plain = targets(&[0, 1, 2, 1, 0], 3, 0.3);
            assert!(mixed_targets.iter().zip(&plain).all(|(mixed, plain)| (mixed - plain).abs() < 1e-6));
            some += usize::from(!foreign.is_empty() && own > 0.0);
        }
        assert!(some > 10, "{some}");
    }

    #[test]
    fn a_cut_weighs_the_targets_of_different_classes() {
        let (mut pixels, mut rows) = (vec![0.0f32; 2 * 3 * 24], targets(&[0, 1], 2, 0.0));
        pixels[72..].fill(1.0);
        Mix { cutmix: 1.0, ..Mix::default() }.apply(
            &mut pixels,
            &mut rows,
            2,
            [6, 4],
            &mut ChaCha8Rng::seed_from_u64(1),
        );
        let foreign = pixels[..24].iter().sum::<f32>() / 24.0;
        assert!(foreign > 0.0 && foreign < 1.0, "{foreign}");
        for (target, expected) in rows.iter().zip([1.0 - foreign, foreign, foreign, 1.0 - foreign]) {
            assert!((target - expected).abs() < 1e-6, "{rows:?} {foreign}");
        }
    }

    #[test]
    fn both_are_drawn_by_their_probabilities() {
        let mix = Mix { mixup: 0.8, cutmix: 1.0, probability: 0.5, switch_probability: 0.25 };
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let drawn: Vec<Drawn> = (0..2000).map(|_| mix.draw([32, 32], &mut rng)).collect();
        let count = |is: fn(&Drawn) -> bool| drawn.iter().filter(|drawn| is(drawn)).count();
        let mixups = count(|drawn| matches!(drawn, Drawn::Mixup(_)));
        let cuts = count(|drawn| matches!(drawn, Drawn::Cutmix { .. }));
        // 750 and 250, with standard deviations of 22 and 15.
        assert!((660..840).contains(&mixups) && (190..310).contains(&cuts), "{mixups} {cuts}");
        assert_eq!(Mix::default().draw([32, 32], &mut rng), Drawn::Nothing);
    }
}
