//! Random numbers of their own for each purpose, as functions of the seed and of a place in the run: a resumed run, and one
//! with more threads, draws the same.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

/// What random numbers are drawn for. The streams of one are independent of those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// What a picture is augmented with.
    Augment,
    /// How a batch is mixed.
    Mix,
    /// Which pictures a balanced epoch holds, in which order.
    Balance,
    /// Which pictures few shots are.
    Shots,
    /// The order of the linear probe's batches.
    Probe,
}

impl Purpose {
    fn key(self) -> [u8; 8] {
        *match self {
            Self::Augment => b"augment ",
            Self::Mix => b"mix     ",
            Self::Balance => b"balance ",
            Self::Shots => b"shots   ",
            Self::Probe => b"probe   ",
        }
    }
}

/// The numbers of one `stream` for a purpose.
pub(super) fn stream(seed: u64, purpose: Purpose, stream: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&purpose.key());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(stream);
    rng
}

/// The stream of a place, counted from 0, in an epoch.
pub(super) fn place(epoch: u32, place: usize) -> u64 {
    (u64::from(epoch) << 32) | (place as u64 & u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use rand::RngCore as _;

    use super::*;

    #[test]
    fn every_seed_purpose_and_place_draws_numbers_of_its_own() {
        let first = |seed, purpose, at| stream(seed, purpose, at).next_u64();
        let all = [
            first(1, Purpose::Augment, place(0, 0)),
            first(2, Purpose::Augment, place(0, 0)),
            first(1, Purpose::Mix, place(0, 0)),
            first(1, Purpose::Augment, place(1, 0)),
            first(1, Purpose::Augment, place(0, 1)),
        ];
        assert_eq!(all[0], first(1, Purpose::Augment, place(0, 0)));
        let different: std::collections::BTreeSet<u64> = all.into_iter().collect();
        assert_eq!(different.len(), all.len());
    }
}
