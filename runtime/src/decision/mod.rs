//! From scores to a decision: smoothing over time, hysteresis, and the answer that no class fits.
//!
//! A [`Decider`] takes the logits of one picture after the other, with the instant that each was taken at, and says
//! which class it is, or that none fits. It has no clock and no threads, and allocates nothing once it is made.
//!
//! # The law
//! 1. **Scores.** The logits, with a clip of N pictures their mean over the last N, are divided by the temperature that the bundle's [`Rejection`](crate::Rejection) holds (1
//!    if it holds none) and go through the bundle's activation: for softmax, probabilities that sum to 1.
//! 2. **Smoothing.** With a time constant τ the scores move towards each new picture's by the share `1 - exp(-Δt / τ)`,
//!    Δt being the time since the picture before. The share depends on the time that passes and not on how many
//!    pictures share it: a changing frame rate changes nothing, and after a gap of many τ the new picture stands alone.
//! 3. **The verdict.** The class with the highest smoothed score, of equal ones the present answer, then the first;
//!    *unknown* if that score is below the threshold `t`. Ignored classes are never the verdict. They keep their
//!    probability, which no other class gets: a picture of an ignored class makes no other look sure.
//! 4. **The answer** is the first picture's verdict. From then on, with the hysteresis `h`, it becomes the present
//!    verdict
//!    - at once, if it is unknown and the verdict is a class: entering takes a score of `t`;
//!    - at once, if the present class has fallen below `t - h`: leaving takes less than entering;
//!    - at once, if the verdict is a class whose score exceeds the present class's by `h` or more;
//!    - when the verdict has been another than the answer, without a break, for the whole patience.
//!
//! A real change is therefore never held up for longer than the patience, counted from the last picture whose verdict
//! was the answer; pictures that are farther apart than the patience are answered by their verdicts alone. And the
//! answer does not flicker: within any span shorter than the patience in which no class's smoothed score moves by `h/2`
//! or more, it changes at most twice, the second time only from unknown to a class. With `h` = 0 the answer is the
//! verdict.

mod clip;
mod decider;
mod error;
mod ignore;
mod options;

pub use decider::{Decider, Decision};
pub use error::DecisionError;
pub use options::{MAX_CLIP, Options};
