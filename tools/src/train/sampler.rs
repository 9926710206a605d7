//! Which pictures an epoch holds, in which order.

use rand::seq::{IteratorRandom as _, SliceRandom as _};
use serde::Serialize;

use super::random::{Purpose, stream};
use super::schedule::epoch_order;

/// Which pictures an epoch holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// Every picture once.
    #[default]
    Shuffled,
    /// As many pictures as there are, as many of each class: pictures of small classes come again, some of large ones not
    /// in every epoch.
    Balanced,
}

impl Sampler {
    /// The order in which pictures of the classes `labels` are seen in `epoch`, counted from 0; as many as there are.
    pub(super) fn order(self, seed: u64, epoch: u32, labels: &[u32]) -> Vec<usize> {
        match self {
            Self::Shuffled => epoch_order(seed, epoch, labels.len()),
            Self::Balanced => balanced(seed, epoch, labels),
        }
    }
}

fn balanced(seed: u64, epoch: u32, labels: &[u32]) -> Vec<usize> {
    let mut rng = stream(seed, Purpose::Balance, epoch.into());
    let classes = labels.iter().max().map_or(0, |&label| label as usize + 1);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); classes];
    for (position, &label) in labels.iter().enumerate() {
        members[label as usize].push(position);
    }
    members.retain(|members| !members.is_empty());
    let count = members.len().max(1);
    // Where the pictures cannot be shared evenly, some classes of this epoch have one more.
    let favoured = (0..count).choose_multiple(&mut rng, labels.len() % count);
    let mut order = Vec::with_capacity(labels.len());
    for (class, mut members) in members.into_iter().enumerate() {
        let mut wanted = labels.len() / count + usize::from(favoured.contains(&class));
        while wanted > 0 {
            members.shuffle(&mut rng);
            let taken = wanted.min(members.len());
            order.extend(&members[..taken]);
            wanted -= taken;
        }
    }
    order.shuffle(&mut rng);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balanced_epoch_holds_as_many_of_each_class() {
        let labels: Vec<u32> = [vec![0; 70], vec![1; 5], vec![2; 26]].concat();
        let order = Sampler::Balanced.order(1, 0, &labels);
        assert_eq!(order.len(), labels.len());
        let mut counts = [0usize; 3];
        order.iter().for_each(|&position| counts[labels[position] as usize] += 1);
        assert!(counts.iter().all(|count| (33..=34).contains(count)), "{counts:?}");
        let seen = |position: &usize| order.iter().filter(|seen| *seen == position).count();
        // A small class is gone through evenly, a large one without repetition.
        assert!((70..75).all(|position| (6..=7).contains(&seen(&position))));
        assert!((0..70).all(|position| seen(&position) <= 1));
        assert_eq!(order, Sampler::Balanced.order(1, 0, &labels));
        assert_ne!(order, Sampler::Balanced.order(1, 1, &labels));
        assert_ne!(order, Sampler::Balanced.order(2, 0, &labels));
    }

    #[test]
    fn a_shuffled_epoch_is_that_of_the_schedule() {
        assert_eq!(Sampler::Shuffled.order(3, 2, &[0; 50]), epoch_order(3, 2, 50));
    }
}
