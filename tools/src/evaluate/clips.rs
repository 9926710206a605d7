//! How good a model is on clips: the logits of the frames of one are averaged.

use std::collections::HashMap;
use std::ffi::OsStr;

use edge_vit::{Bundle, Classifier};

use super::{EvaluateError, Evaluation, Outcome, Sample, Samples, scored};
use crate::data::clip_name;

/// The frames of a clip so far.
struct Clip {
    sample: Sample,
    /// Sums over the frames, in float64.
    logits: Vec<f64>,
    frames: usize,
    ms: f64,
}

/// Runs `classifier` over `samples`, averages the logits of the frames of each clip and gathers the figures of
/// clips: a film, else a group ([`Sample::group`]), else a picture by itself. The mean over the frames is what a linear head makes of the mean of their
/// features. Else as [`super::evaluate`]; a mistake names the film, or the folder of its clip.
///
/// # Errors
/// Those of [`super::outcomes`], and when no picture belongs to a clip.
pub fn evaluate_clips(
    classifier: &Classifier,
    samples: &Samples,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Evaluation, EvaluateError> {
    if samples.pictures.iter().all(|sample| name(sample).is_none()) {
        return Err(EvaluateError::NoClips { path: samples.folder.clone() });
    }
    let (frames, skipped) =
        scored(classifier, samples, progress, &|index, logits, ms| Some((index, logits.to_vec(), ms)))?;
    let count = frames.len();
    let mut clips: Vec<Clip> = Vec::new();
    let mut known: HashMap<(usize, &OsStr), usize> = HashMap::new();
    for (index, logits, ms) in frames {
        let sample = &samples.pictures[index];
        let at = match name(sample) {
            None => clips.len(),
            Some(name) => *known.entry((sample.class, name)).or_insert(clips.len()),
        };
        if at == clips.len() {
            clips.push(Clip { sample: of_clip(sample), logits: vec![0.0; logits.len()], frames: 0, ms: 0.0 });
        }
        let clip = &mut clips[at];
        clip.logits.iter_mut().zip(logits).for_each(|(sum, logit)| *sum += f64::from(logit));
        clip.frames += 1;
        clip.ms += ms;
    }

    let Bundle { labels, rejection, .. } = classifier.bundle();
    let temperature = rejection.map_or(1.0, |rejection| f64::from(rejection.temperature));
    let outcome = |(index, clip): (usize, &Clip)| {
        let logits: Vec<f32> = clip.logits.iter().map(|sum| (sum / clip.frames as f64) as f32).collect();
        Outcome::score(index, clip.sample.class, &logits, temperature, clip.ms)
    };
    // The mean of finite logits is finite.
    let outcomes: Vec<Outcome> = clips.iter().enumerate().filter_map(outcome).collect();
    let pictures = clips.into_iter().map(|clip| clip.sample).collect();
    let samples = Samples { pictures, ..samples.clone() };
    Ok(Evaluation { frames: Some(count), ..Evaluation::new(labels, &samples, &outcomes, skipped, *rejection) })
}

fn name(sample: &Sample) -> Option<&OsStr> {
    clip_name(sample.film.as_deref(), sample.group.as_deref())
}

/// The clip that `frame` is of: called as its film, or as the folder that holds it.
fn of_clip(frame: &Sample) -> Sample {
    let folder = frame.path.parent().filter(|_| frame.group.is_some());
    let path = frame.film.as_deref().or(folder).unwrap_or(&frame.path);
    Sample { path: path.to_owned(), ..frame.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::fixture::{colour_model, paint};

    #[test]
    fn the_frames_of_a_clip_are_averaged_and_clips_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let classifier = Classifier::from_bytes(&colour_model(4, Some(["red", "green", "blue"]))).unwrap();
        let find = || Samples::find(dir.path(), &classifier.bundle().labels).unwrap();
        for (path, colour) in [
            // One frame of three looks blue, but not so much as the others look red.
            ("red/001/1.png", [220, 10, 10]),
            ("red/001/2.png", [120, 10, 160]),
            ("red/001/3.png", [220, 10, 10]),
            // More frames look green, and by less than the one looks red.
            ("green/001/1.png", [220, 10, 10]),
            ("green/001/2.png", [80, 90, 10]),
            ("green/001/3.png", [80, 90, 10]),
            ("green/002/1.png", [10, 220, 10]),
        ] {
            paint(&dir.path().join(path), colour);
        }
        std::fs::write(dir.path().join("green/002/2.png"), b"no picture").unwrap();
        let evaluation = evaluate_clips(&classifier, &find(), &|_| {}).unwrap();
        assert_eq!((evaluation.top1.correct, evaluation.top1.of, evaluation.frames), (2, 3, Some(7)));
        assert_eq!(evaluation.confusion, [[1, 0, 0], [1, 1, 0], [0, 0, 0]]);
        assert!(evaluation.mistakes[0].path.ends_with("green/001"), "{:?}", evaluation.mistakes);
        assert_eq!(evaluation.skipped.len(), 1);
        let alone = crate::evaluate::evaluate(&classifier, &find(), &|_| {}).unwrap();
        assert_eq!((alone.top1.correct, alone.top1.of, alone.frames), (5, 7, None));

        paint(&dir.path().join("blue/1.png"), [10, 10, 220]);
        let with_a_picture = evaluate_clips(&classifier, &find(), &|_| {}).unwrap();
        assert_eq!((with_a_picture.top1.correct, with_a_picture.top1.of), (3, 4));
    }

    #[test]
    fn films_of_one_group_are_clips_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let classifier = Classifier::from_bytes(&colour_model(4, Some(["red", "green", "blue"]))).unwrap();
        for (path, colour) in [("red/1.png", [220, 10, 10]), ("red/2.png", [220, 10, 10]), ("red/3.png", [10, 10, 160])]
        {
            paint(&dir.path().join(path), colour);
        }
        let mut samples = Samples::find(dir.path(), &classifier.bundle().labels).unwrap();
        for (sample, film) in samples.pictures.iter_mut().zip(["a.mp4", "a.mp4", "b.mp4"]) {
            (sample.group, sample.film) = (Some("tom".to_owned()), Some(film.into()));
        }
        let evaluation = evaluate_clips(&classifier, &samples, &|_| {}).unwrap();
        assert_eq!((evaluation.top1.correct, evaluation.top1.of, evaluation.frames), (1, 2, Some(3)));
        assert_eq!(evaluation.mistakes[0].path, "b.mp4");
    }

    #[test]
    fn a_data_set_without_clips_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let classifier = Classifier::from_bytes(&colour_model(4, Some(["red", "green", "blue"]))).unwrap();
        paint(&dir.path().join("red/1.png"), [220, 10, 10]);
        let samples = Samples::find(dir.path(), &classifier.bundle().labels).unwrap();
        let error = evaluate_clips(&classifier, &samples, &|_| {}).unwrap_err();
        assert!(matches!(error, EvaluateError::NoClips { .. }) && error.to_string().contains("CLASS/CLIP"), "{error}");
    }
}
