//! What a user chooses about decisions.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::DecisionError;

/// The most pictures of a clip.
pub const MAX_CLIP: usize = 1024;

/// How scores become answers; the [module](super) says by which law. In a file, times are seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The score, 0 to 1, below which the answer is unknown; `None` for the one that the model file brings, if it
    /// brings one. 0 turns the answer off.
    pub threshold: Option<f32>,
    /// How many pictures, 1 to [`MAX_CLIP`], an answer is made of, by the mean of their logits: those of a film that show together what
    /// none shows alone.
    pub clip: NonZeroUsize,
    /// The time constant of the smoothing; `None` or zero to judge each picture by itself.
    #[serde(with = "optional_seconds")]
    pub smoothing: Option<Duration>,
    /// How far scores have to move before the answer changes at once, 0 to 1.
    pub hysteresis: f32,
    /// How long the answer may be another than what the scores say by themselves.
    #[serde(with = "seconds")]
    pub patience: Duration,
    /// Classes that are never the answer: their names, or the beginnings of their names with `*` behind.
    pub ignore: Vec<String>,
}

impl Default for Options {
    /// The model file's threshold, each picture by itself, no smoothing, a hysteresis of 0.1 for at most 3 seconds, no class ignored.
    fn default() -> Self {
        let clip = NonZeroUsize::MIN;
        Self {
            threshold: None,
            clip,
            smoothing: None,
            hysteresis: 0.1,
            patience: Duration::from_secs(3),
            ignore: Vec::new(),
        }
    }
}

impl Options {
    /// Says whether the numbers are in their ranges. Whether the ignored classes are there, the model decides.
    ///
    /// # Errors
    /// [`DecisionError::OutOfRange`] names the field, [`DecisionError::Clip`] tells that of the pictures of a clip.
    pub fn check(&self) -> Result<(), DecisionError> {
        for (field, value) in [("threshold", self.threshold.unwrap_or(0.0)), ("hysteresis", self.hysteresis)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(DecisionError::OutOfRange { field, value });
            }
        }
        if self.clip.get() > MAX_CLIP {
            return Err(DecisionError::Clip { pictures: self.clip.get() });
        }
        Ok(())
    }
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(time.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        from_seconds(f64::deserialize(deserializer)?)
    }

    pub(super) fn from_seconds<E: de::Error>(seconds: f64) -> Result<Duration, E> {
        Duration::try_from_secs_f64(seconds)
            .map_err(|_| E::custom(format_args!("{seconds} is no time in seconds: give a number of 0 or more")))
    }
}

mod optional_seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(|time| time.as_secs_f64()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Option::<f64>::deserialize(deserializer)?.map(super::seconds::from_seconds).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_in_a_file_and_what_is_absent_is_the_default() {
        let options: Options = serde_json::from_str(r#"{"smoothing": 0.5, "patience": 2, "ignore": ["a*"]}"#).unwrap();
        let expected = Options {
            smoothing: Some(Duration::from_millis(500)),
            patience: Duration::from_secs(2),
            ignore: vec!["a*".into()],
            ..Options::default()
        };
        assert_eq!(options, expected);
        let again: Options = serde_json::from_str(&serde_json::to_string(&options).unwrap()).unwrap();
        assert_eq!(again, options);
        assert_eq!(serde_json::from_str::<Options>("{}").unwrap(), Options::default());
    }

    #[test]
    fn what_is_no_time_no_field_or_out_of_range_is_named() {
        for (json, named) in [
            (r#"{"smoothing": -1}"#, "-1"),
            (r#"{"patience": 1e300}"#, "no time in seconds"),
            (r#"{"treshold": 0.5}"#, "treshold"),
        ] {
            let error = serde_json::from_str::<Options>(json).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let threshold = |value| Options { threshold: Some(value), ..Options::default() };
        threshold(1.0).check().unwrap();
        for wrong in [threshold(1.1), threshold(f32::NAN), Options { hysteresis: -0.1, ..Options::default() }] {
            assert!(matches!(wrong.check(), Err(DecisionError::OutOfRange { .. })));
        }
    }
}
