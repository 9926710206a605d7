//! The mean over the pictures of a clip.

use std::num::NonZeroUsize;

/// The logits of the last pictures, and their mean. A head that is linear in the features of each picture gives as this mean what it
/// would give of the mean of the features.
#[derive(Debug, Clone)]
pub(super) struct Clip {
    /// `[pictures, classes]`; the latest stands before `next`.
    ring: Vec<f32>,
    classes: usize,
    /// The row that the next picture takes.
    next: usize,
    /// How many rows hold a picture.
    filled: usize,
    /// `[classes]`.
    mean: Vec<f32>,
}

impl Clip {
    /// A ring of `pictures` rows of `classes` logits.
    pub(super) fn new(pictures: NonZeroUsize, classes: usize) -> Self {
        Self { ring: vec![0.0; pictures.get() * classes], classes, next: 0, filled: 0, mean: vec![0.0; classes] }
    }

    /// Takes the `logits` of a picture, one a class, in the place of the oldest, and gives the mean over the pictures that are
    /// there: at first fewer than the ring holds.
    pub(super) fn mean(&mut self, logits: &[f32]) -> &[f32] {
        let rows = self.ring.len() / self.classes.max(1);
        let start = self.next * self.classes;
        if let Some(row) = self.ring.get_mut(start..start + logits.len()) {
            row.copy_from_slice(logits);
        }
        self.next = if self.next + 1 < rows { self.next + 1 } else { 0 };
        self.filled = rows.min(self.filled + 1);
        // Summed anew each time: a running sum would drift over months.
        for (class, mean) in self.mean.iter_mut().enumerate() {
            let column = self.ring.iter().skip(class).step_by(self.classes).take(self.filled);
            let sum: f64 = column.map(|&logit| f64::from(logit)).sum();
            *mean = (sum / self.filled as f64) as f32;
        }
        &self.mean
    }

    /// Forgets all pictures.
    pub(super) fn reset(&mut self) {
        (self.next, self.filled) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_mean_is_that_of_the_last_pictures(
            pictures in 1usize..6,
            seen in proptest::collection::vec(proptest::array::uniform3(-9.0f32..9.0), 1..20),
            forgotten in 0usize..20,
        ) {
            let mut clip = Clip::new(NonZeroUsize::new(pictures).unwrap(), 3);
            let mut since = 0;
            for (at, logits) in seen.iter().enumerate() {
                if at == forgotten {
                    clip.reset();
                    since = at;
                }
                let last = &seen[since.max((at + 1).saturating_sub(pictures))..=at];
                let mean = clip.mean(logits);
                for (class, mean) in mean.iter().enumerate() {
                    let expected = last.iter().map(|logits| f64::from(logits[class])).sum::<f64>() / last.len() as f64;
                    prop_assert_eq!(*mean, expected as f32);
                }
            }
        }
    }
}
