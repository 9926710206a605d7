//! Which epoch's adapters a run keeps.

use serde::{Deserialize, Serialize};

/// An epoch's figures on the validation pictures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Validated {
    /// Counted from 1.
    pub epoch: u32,
    /// Share of validation pictures whose best class is right, 0 to 1; in segmentation, of their pixels.
    pub val_top1: f32,
    /// In segmentation, the mean over the classes of intersection over union on the validation pictures, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_miou: Option<f32>,
    /// Mean cross-entropy on the validation pictures.
    pub val_loss: f32,
}

impl Validated {
    /// Whether this epoch is better than `other`: more pictures right, in segmentation a higher mean overlap; or as much at a
    /// lower loss.
    fn beats(&self, other: &Self) -> bool {
        let [own, others] = [self, other].map(|one| one.val_miou.unwrap_or(one.val_top1));
        own > others || (own == others && self.val_loss < other.val_loss)
    }

    /// Whether what this epoch lacks to `best` is at most the standard error, `sqrt(p (1 - p) / n)`, of the share `p` that `best` has right
    /// of `n` pictures. A mean overlap has no such error: there nothing may be lacking.
    fn is_level_with(&self, best: &Self, pictures: usize) -> bool {
        let share = f64::from(best.val_top1);
        let standard_error = (share * (1.0 - share) / pictures as f64).sqrt();
        self.val_miou.is_none() && f64::from(self.val_top1) >= share - standard_error
    }
}

/// The epochs of a run that count: the best on the validation pictures, and the one whose adapters are kept, which is the
/// last that the pictures cannot tell from the best.
///
/// The best of many epochs is partly the luckiest, the more so the fewer the pictures; the learning rate falls towards
/// the end, so that of epochs that are alike the last is the one to expect most of. This is the rule of one standard error
/// (Breiman, Friedman, Olshen and Stone, Classification and Regression Trees, 1984) with later for simpler.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Choice {
    pub(super) best: Option<Validated>,
    pub(super) kept: Option<Validated>,
}

impl Choice {
    /// The choice after the epoch `this`, validated on as many `pictures`. It is kept where it is the [`kept`](Self::kept) of what
    /// comes back.
    pub(super) fn after(self, this: Validated, pictures: usize) -> Self {
        let best = self.best.filter(|best| !this.beats(best)).unwrap_or(this);
        let kept = if best.epoch == this.epoch || this.is_level_with(&best, pictures) { Some(this) } else { self.kept };
        Self { best: Some(best), kept }
    }

    /// Whether the epoch is the one that is kept.
    pub(super) fn keeps(&self, this: &Validated) -> bool {
        self.kept.is_some_and(|kept| kept.epoch == this.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(epoch: u32, val_top1: f32, val_loss: f32) -> Validated {
        Validated { epoch, val_top1, val_miou: None, val_loss }
    }

    /// The epochs that are the best and that are kept in the end, of shares of `pictures` by epoch.
    fn chosen(shares: &[f32], pictures: usize) -> (u32, u32) {
        let epochs = (1..).zip(shares).map(|(epoch, &share)| classified(epoch, share, 1.0));
        let choice = epochs.fold(Choice::default(), |choice, this| choice.after(this, pictures));
        (choice.best.unwrap().epoch, choice.kept.unwrap().epoch)
    }

    #[test]
    fn the_last_epoch_that_is_level_with_the_best_is_kept() {
        // One standard error of 0.7 is 0.0324 of 200 pictures and 0.0032 of 20,000.
        assert_eq!(chosen(&[0.5, 0.7, 0.67, 0.66], 200), (2, 3));
        assert_eq!(chosen(&[0.5, 0.7, 0.67, 0.66], 20_000), (2, 2));
        assert_eq!(chosen(&[0.5, 0.7, 0.69, 0.71, 0.6], 200), (4, 4));
        assert_eq!(chosen(&[0.9, 0.1, 0.2], 200), (1, 1));
    }

    #[test]
    fn an_epoch_that_was_level_is_given_up_for_a_better_one() {
        assert_eq!(chosen(&[0.70, 0.68, 0.75, 0.70], 200), (3, 3));
    }

    #[test]
    fn nothing_is_level_with_all_right_but_all_right() {
        assert_eq!(chosen(&[1.0, 1.0, 0.96], 25), (1, 2));
    }

    #[test]
    fn the_lower_loss_is_the_better_of_equal_shares() {
        let (early, late) = (classified(1, 0.9, 0.4), classified(2, 0.9, 0.5));
        assert!(early.beats(&late) && !late.beats(&early) && !early.beats(&early));
        let choice = Choice::default().after(early, 10).after(late, 10);
        assert_eq!((choice.best, choice.kept), (Some(early), Some(late)));
    }

    #[test]
    fn the_highest_overlap_is_kept() {
        let overlap =
            |epoch, val_miou, val_top1| Validated { val_miou: Some(val_miou), ..classified(epoch, val_top1, 1.0) };
        let choice = Choice::default().after(overlap(1, 0.6, 0.8), 10).after(overlap(2, 0.59, 0.9), 10);
        assert_eq!(choice.kept.unwrap().epoch, 1);
        assert_eq!(choice.after(overlap(3, 0.61, 0.7), 10).kept.unwrap().epoch, 3);
    }

    #[test]
    fn no_number_is_not_kept_over_one() {
        let choice = Choice::default().after(classified(1, 0.5, 1.0), 10).after(classified(2, f32::NAN, f32::NAN), 10);
        assert_eq!(choice.kept.unwrap().epoch, 1);
    }
}
