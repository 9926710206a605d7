//! Which classes are ignored.

use super::DecisionError;

/// Whether each of `labels` is ignored, if `entries` are: exact names, or beginnings of names with `*` behind. An
/// entry that is a name as it stands means that class alone, even if it ends in `*`.
///
/// # Errors
/// [`DecisionError::UnknownLabel`] for the first entry that fits no label, [`DecisionError::AllIgnored`].
pub(super) fn ignored(entries: &[String], labels: &[String]) -> Result<Vec<bool>, DecisionError> {
    let mut ignored = vec![false; labels.len()];
    for entry in entries {
        let beginning = entry.strip_suffix('*').filter(|_| !labels.contains(entry));
        let fits = |label: &String| beginning.map_or(label == entry, |beginning| label.starts_with(beginning));
        let mut found = false;
        for (_, ignored) in labels.iter().zip(&mut ignored).filter(|(label, _)| fits(label)) {
            (*ignored, found) = (true, true);
        }
        if !found {
            let nearest = nearest(beginning.unwrap_or(entry), beginning.is_some(), labels);
            return Err(DecisionError::UnknownLabel { entry: entry.clone(), nearest, labels: labels.to_vec() });
        }
    }
    if ignored.iter().all(|&ignored| ignored) {
        return Err(DecisionError::AllIgnored { classes: labels.len() });
    }
    Ok(ignored)
}

/// The label that `entry` is most likely a misspelling of (of its beginning, if `beginning`), case aside; at most a
/// third of the letters may differ.
fn nearest(entry: &str, beginning: bool, labels: &[String]) -> Option<String> {
    let entry: Vec<char> = entry.to_lowercase().chars().collect();
    let distance = |label: &String| {
        let mut label: Vec<char> = label.to_lowercase().chars().collect();
        if beginning {
            label.truncate(entry.len());
        }
        edit_distance(&entry, &label)
    };
    let (distance, label) =
        labels.iter().map(|label| (distance(label), label)).min_by_key(|&(distance, _)| distance)?;
    (3 * distance <= entry.len()).then(|| label.clone())
}

/// How many letters have to be inserted, left out or replaced to make `a` of `b` (Levenshtein).
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn of(entries: &[&str]) -> Result<Vec<bool>, DecisionError> {
        ignored(&owned(entries), &owned(&["dog/beagle", "dog/boxer", "cat", "star*", "starfish"]))
    }

    #[test]
    fn names_and_beginnings_are_found() {
        assert_eq!(of(&[]).unwrap(), [false; 5]);
        assert_eq!(of(&["dog/*", "cat"]).unwrap(), [true, true, true, false, false]);
        assert_eq!(of(&["star*"]).unwrap(), [false, false, false, true, false]);
        assert_eq!(of(&["sta*"]).unwrap(), [false, false, false, true, true]);
    }

    #[test]
    fn an_entry_that_fits_nothing_is_named_with_its_nearest_class() {
        for (entry, expected) in [
            ("dog/beagel", Some("dog/beagle")),
            ("Cat", Some("cat")),
            ("dig/*", Some("dog/beagle")),
            ("", None),
            ("aeroplane", None),
        ] {
            let error = of(&[entry]).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(&format!("`{entry}`")) && message.contains("`starfish`"), "{message}");
            let DecisionError::UnknownLabel { nearest, .. } = error else { panic!("{message}") };
            assert_eq!(nearest.as_deref(), expected);
            assert_eq!(message.contains("did you mean"), expected.is_some());
        }
    }

    #[test]
    fn at_least_one_class_is_left() {
        assert!(matches!(of(&["*"]), Err(DecisionError::AllIgnored { classes: 5 })));
        assert!(of(&["dog/*", "cat", "star*"]).is_ok());
    }

    #[test]
    fn the_distance_counts_letters() {
        for (a, b, expected) in [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2)] {
            let letters = |word: &str| word.chars().collect::<Vec<_>>();
            assert_eq!(edit_distance(&letters(a), &letters(b)), expected);
            assert_eq!(edit_distance(&letters(b), &letters(a)), expected);
        }
    }
}
