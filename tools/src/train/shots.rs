//! Few shots: K pictures of each class to train on, and K others to choose the epoch by.

use rand::seq::SliceRandom as _;

use super::TrainError;
use super::random::{Purpose, stream};
use crate::data::{Dataset, Group, Picture, PictureSet, split};

/// The data set with `shots` pictures of each class to train on, chosen by `seed` alone. Where it sets pictures apart to
/// choose the epoch by, these stay as they are; else other pictures serve, as many of each class where there are so many.
/// With `group`, or where the data set says what pictures belong to, no group is on both sides: the pictures are split by
/// `fraction` first.
///
/// # Errors
/// When a class has too few pictures, or groups.
pub(super) fn few(
    data: Dataset,
    shots: usize,
    fraction: f64,
    group: Option<&Group>,
    seed: u64,
) -> Result<Dataset, TrainError> {
    let set = data.train;
    let (train, val) = match (data.val, group.is_some() || set.is_grouped()) {
        (Some(val), _) => (take(&set, None, shots, seed)?.0, val),
        (None, false) => {
            let (train, rest) = take(&set, None, shots, seed)?;
            (train, take(&rest, Some(1), shots, seed)?.0)
        }
        (None, true) => {
            let parts = split(&set, fraction, group, seed)?;
            let (train, rest) = (part(&set, &parts.train), part(&set, &parts.val));
            (take(&train, None, shots, seed)?.0, take(&rest, Some(1), shots, seed)?.0)
        }
    };
    Ok(Dataset { train, val: Some(val) })
}

fn part(set: &PictureSet, positions: &[usize]) -> PictureSet {
    let pictures = positions.iter().map(|&position| set.pictures[position].clone()).collect();
    PictureSet { pictures, ..set.clone() }
}

/// `shots` pictures of each class, and the others. A class may give fewer where it gives at least `enough`.
fn take(
    set: &PictureSet,
    enough: Option<usize>,
    shots: usize,
    seed: u64,
) -> Result<(PictureSet, PictureSet), TrainError> {
    let mut rng = stream(seed, Purpose::Shots, 0);
    let (mut taken, mut others) = (Vec::new(), Vec::new());
    for (label, name) in (0u32..).zip(&set.labels) {
        let mut members: Vec<&Picture> = set.pictures.iter().filter(|picture| picture.label == label).collect();
        if members.len() < enough.unwrap_or(shots) {
            let (label, found) = (name.clone(), members.len());
            return Err(TrainError::Shots { label, found, shots, validation: enough.is_some() });
        }
        members.shuffle(&mut rng);
        let (some, rest) = members.split_at(shots.min(members.len()));
        taken.extend(some.iter().copied().cloned());
        others.extend(rest.iter().copied().cloned());
    }
    for pictures in [&mut taken, &mut others] {
        pictures.sort_by(|a, b| (a.label, &a.path).cmp(&(b.label, &b.path)));
    }
    Ok((PictureSet { pictures: taken, ..set.clone() }, PictureSet { pictures: others, ..set.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Classes a and b of the given sizes; each person shows three pictures.
    fn folder(counts: [usize; 2]) -> PictureSet {
        let labels = ["a", "b"].map(str::to_owned).to_vec();
        let pictures = (0u32..).zip(counts).flat_map(|(label, count)| {
            (0..count).map(move |n| Picture {
                path: format!("{label}/p{:02}_{n}.png", n / 3).into(),
                label,
                group: None,
                film: None,
            })
        });
        PictureSet { path: "set".into(), labels: labels.clone(), pictures: pictures.collect() }
    }

    fn few_of(counts: [usize; 2], shots: usize, group: Option<&Group>, seed: u64) -> Result<Dataset, TrainError> {
        few(Dataset { train: folder(counts), val: None }, shots, 0.3, group, seed)
    }

    #[test]
    fn each_class_gives_its_shots_and_others_to_choose_by() {
        let data = few_of([20, 7], 4, None, 1).unwrap();
        let val = data.val.clone().unwrap();
        assert_eq!((data.train.counts(), val.counts()), (vec![4, 4], vec![4, 3]));
        assert!(data.train.pictures.iter().all(|picture| !val.pictures.contains(picture)));
        assert_eq!(few_of([20, 7], 4, None, 1).unwrap(), data);
        assert_ne!(few_of([20, 7], 4, None, 2).unwrap(), data);
    }

    #[test]
    fn pictures_set_apart_stay() {
        let val = folder([9, 9]);
        let data = Dataset { train: folder([20, 7]), val: Some(val.clone()) };
        let data = few(data, 7, 0.3, None, 1).unwrap();
        assert_eq!((data.train.counts(), data.val), (vec![7, 7], Some(val)));
    }

    #[test]
    fn groups_are_not_parted() {
        let group = Group::Before("_".into());
        let data = few_of([30, 30], 5, Some(&group), 1).unwrap();
        let groups =
            |folder: &PictureSet| folder.pictures.iter().map(|picture| group.of(&picture.path)).collect::<Vec<_>>();
        let val = data.val.unwrap();
        assert_eq!(data.train.counts(), [5, 5]);
        assert!(val.counts().iter().all(|count| (1..=5).contains(count)));
        assert!(groups(&data.train).iter().all(|group| !groups(&val).contains(group)));
    }

    #[test]
    fn a_class_with_too_few_pictures_is_named() {
        let refused = |counts| few_of(counts, 4, None, 1).unwrap_err().to_string();
        let error = refused([20, 3]);
        assert!(error.contains("`b`") && error.contains("3 pictures"), "{error}");
        let error = refused([20, 4]);
        assert!(error.contains("`b`") && error.contains("none"), "{error}");
    }
}
