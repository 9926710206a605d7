//! Splitting a data set's pictures into those that are trained on and those that choose the epoch.

use std::collections::BTreeMap;
use std::path::Path;

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{DataError, PictureSet};

/// What makes pictures belong together, so that they must not be parted: those of one person, one scene, one film.
/// Groups run across classes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// The first so many characters of the file name.
    Prefix(usize),
    /// The file name up to the first occurrence of a separator; the whole name where there is none.
    Before(String),
}

impl Group {
    /// The group of the picture or film at `path`.
    pub fn of(&self, path: &Path) -> String {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match self {
            Self::Prefix(characters) => name.chars().take(*characters).collect(),
            Self::Before(separator) => name.split(separator.as_str()).next().unwrap_or_default().to_owned(),
        }
    }
}

/// Two parts of a set's pictures, as ascending positions in [`PictureSet::pictures`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// To train on.
    pub train: Vec<usize>,
    /// To choose the epoch by.
    pub val: Vec<usize>,
}

/// Splits `fraction` of each class off, chosen by `seed` alone: at least one picture of each class on either side. With
/// `group`, or where the data set says what pictures belong to, whole groups are split off until each class has about its share,
/// and no group is in both parts. `group` comes before what the data set says.
///
/// # Errors
/// When the fraction is not between 0 and 1, or a class has too few pictures or groups.
pub fn split(set: &PictureSet, fraction: f64, group: Option<&Group>, seed: u64) -> Result<Split, DataError> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(DataError::Fraction { got: fraction });
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let in_val = match group.is_some() || set.is_grouped() {
        false => stratified(set, fraction, &mut rng)?,
        true => grouped(set, fraction, group, &mut rng)?,
    };
    let (val, train) = (0..in_val.len()).partition(|&index| in_val[index]);
    Ok(Split { train, val })
}

/// How many of a class of `count` pictures to split off.
fn share(count: usize, fraction: f64) -> usize {
    ((count as f64 * fraction).round() as usize).clamp(1, count.saturating_sub(1).max(1))
}

fn stratified(set: &PictureSet, fraction: f64, rng: &mut ChaCha8Rng) -> Result<Vec<bool>, DataError> {
    let mut in_val = vec![false; set.pictures.len()];
    for (class, label) in set.labels.iter().enumerate() {
        let mut members: Vec<usize> =
            (0..set.pictures.len()).filter(|&index| set.pictures[index].label as usize == class).collect();
        if members.len() < 2 {
            return Err(DataError::TooFew { label: label.clone(), what: "pictures" });
        }
        members.shuffle(rng);
        for &index in &members[..share(members.len(), fraction)] {
            in_val[index] = true;
        }
    }
    Ok(in_val)
}

fn grouped(
    set: &PictureSet,
    fraction: f64,
    group: Option<&Group>,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<bool>, DataError> {
    /// A group by its name, or a picture that is one by itself.
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Key {
        Name(String),
        Alone(usize),
    }
    let mut members: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (index, picture) in set.pictures.iter().enumerate() {
        let name = group.map(|group| group.of(picture.file())).or_else(|| picture.group.clone());
        members.entry(name.map_or(Key::Alone(index), Key::Name)).or_default().push(index);
    }
    let mut groups: Vec<Vec<usize>> = members.into_values().collect();
    groups.shuffle(rng);

    let counts = set.counts();
    let wanted: Vec<usize> = counts.iter().map(|&count| share(count, fraction)).collect();
    let mut taken = vec![0usize; counts.len()];
    let mut in_val = vec![false; set.pictures.len()];
    for members in groups {
        let mut with = taken.clone();
        for &index in &members {
            with[set.pictures[index].label as usize] += 1;
        }
        let leaves_some = with.iter().zip(&counts).all(|(with, count)| with < count);
        let missing = with.iter().zip(&taken).any(|(&with, &taken)| taken == 0 && with > 0);
        if leaves_some && (missing || off(&with, &wanted) < off(&taken, &wanted)) {
            taken = with;
            members.iter().for_each(|&index| in_val[index] = true);
        }
    }
    match set.labels.iter().zip(&taken).find(|(_, taken)| **taken == 0) {
        Some((label, _)) => Err(DataError::TooFew { label: label.clone(), what: "groups of pictures" }),
        None => Ok(in_val),
    }
}

/// How far the pictures taken are from those wanted, over all classes.
fn off(taken: &[usize], wanted: &[usize]) -> usize {
    taken.iter().zip(wanted).map(|(taken, wanted)| taken.abs_diff(*wanted)).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::data::Picture;

    /// `people` people, each showing each of three classes `shots` times.
    fn people(people: usize, shots: usize) -> PictureSet {
        let labels = ["a", "b", "c"].map(str::to_owned).to_vec();
        let pictures = (0..3u32)
            .flat_map(|label| {
                (0..people * shots).map(move |n| Picture {
                    path: format!("{label}/p{:02}_{}.png", n / shots, n % shots).into(),
                    label,
                    group: None,
                    film: None,
                })
            })
            .collect();
        PictureSet { path: "set".into(), labels, pictures }
    }

    fn val_counts(folder: &PictureSet, split: &Split) -> Vec<usize> {
        let pictures = split.val.iter().map(|&index| folder.pictures[index].clone()).collect();
        PictureSet { pictures, ..folder.clone() }.counts()
    }

    #[test]
    fn each_class_gives_its_share() {
        let folder = people(10, 4);
        let parts = split(&folder, 0.15, None, 1).unwrap();
        assert_eq!(val_counts(&folder, &parts), [6, 6, 6]);
        assert_eq!(parts.train.len() + parts.val.len(), folder.pictures.len());
        assert!(parts.val.iter().all(|index| !parts.train.contains(index)));
    }

    #[test]
    fn the_seed_alone_decides() {
        let folder = people(10, 4);
        assert_eq!(split(&folder, 0.15, None, 1).unwrap(), split(&folder, 0.15, None, 1).unwrap());
        assert_ne!(split(&folder, 0.15, None, 1).unwrap(), split(&folder, 0.15, None, 2).unwrap());
    }

    #[test]
    fn a_small_class_keeps_one_on_either_side() {
        let folder = people(1, 2);
        for fraction in [0.01, 0.99] {
            let parts = split(&folder, fraction, None, 1).unwrap();
            assert_eq!(val_counts(&folder, &parts), [1, 1, 1]);
        }
        let error = split(&people(1, 1), 0.15, None, 1).unwrap_err();
        assert!(matches!(error, DataError::TooFew { what: "pictures", .. }), "{error}");
        assert!(matches!(split(&folder, 1.0, None, 1), Err(DataError::Fraction { .. })));
    }

    #[test]
    fn no_group_is_in_both_parts() {
        let folder = people(20, 3);
        for group in [Group::Prefix(3), Group::Before("_".into())] {
            let parts = split(&folder, 0.15, Some(&group), 5).unwrap();
            let names = |part: &[usize]| {
                part.iter().map(|&index| group.of(&folder.pictures[index].path)).collect::<BTreeSet<_>>()
            };
            assert!(names(&parts.train).is_disjoint(&names(&parts.val)));
            assert_eq!(val_counts(&folder, &parts), [9, 9, 9]);
        }
        let error = split(&folder, 0.15, Some(&Group::Prefix(1)), 5).unwrap_err();
        assert!(matches!(error, DataError::TooFew { what: "groups of pictures", .. }), "{error}");
    }

    #[test]
    fn groups_that_the_data_set_names_are_kept_together() {
        let mut folder = people(20, 3);
        let by_name = Group::Before("_".into());
        let expected = split(&folder, 0.15, Some(&by_name), 5).unwrap();
        for picture in &mut folder.pictures {
            picture.group = Some(by_name.of(&picture.path));
        }
        assert_eq!(split(&folder, 0.15, None, 5).unwrap(), expected);

        folder.pictures.iter_mut().skip(1).for_each(|picture| picture.group = None);
        let alone = split(&folder, 0.15, None, 5).unwrap();
        assert_eq!(val_counts(&folder, &alone), [9, 9, 9]);
    }
}
