//! What data sets are called.

use std::path::Path;

use super::ProtocolError;

/// The name of the data set at `path`: that of its folder, or of its file without the ending.
///
/// # Errors
/// When it is no name for a folder.
pub fn name_of(path: &Path) -> Result<String, ProtocolError> {
    // `.` and `..` have names too.
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = if whole.is_dir() { whole.file_name() } else { whole.file_stem() };
    let name = name.unwrap_or_default().to_string_lossy().into_owned();
    checked(name, path)
}

/// `name`, where a folder can be called so.
pub(super) fn checked(name: String, path: &Path) -> Result<String, ProtocolError> {
    let fits = |letter: char| letter.is_alphanumeric() || "-_.".contains(letter);
    match name.is_empty() || name.starts_with('.') || !name.chars().all(fits) {
        true => Err(ProtocolError::Name { name, path: path.to_owned() }),
        false => Ok(name),
    }
}

/// Checks that no two of `names` are the same.
pub(super) fn distinct<'a>(names: impl IntoIterator<Item = &'a String>) -> Result<(), ProtocolError> {
    let mut names: Vec<&String> = names.into_iter().collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ProtocolError::SameName { name: pair[0].clone() }),
        None => Ok(()),
    }
}

/// Checks that no two of the numbers of `option` are the same.
pub(super) fn once<T: PartialEq + ToString>(option: &'static str, values: &[T]) -> Result<(), ProtocolError> {
    match values.iter().enumerate().find(|&(at, value)| values[..at].contains(value)) {
        Some((_, value)) => Err(ProtocolError::Twice { option, value: value.to_string() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_set_is_called_as_its_folder_or_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sign-digits")).unwrap();
        std::fs::write(dir.path().join("list.csv"), b"").unwrap();
        let of = |name: &str| name_of(&dir.path().join(name)).unwrap();
        assert_eq!(
            [of("sign-digits"), of("sign-digits/"), of("sign-digits/."), of("list.csv")][..3],
            ["sign-digits"; 3]
        );
        assert_eq!(of("list.csv"), "list");
        let error = name_of(&dir.path().join("a b")).unwrap_err();
        assert!(error.to_string().contains("`a b`"), "{error}");
    }

    #[test]
    fn what_is_given_twice_is_named() {
        let names = ["a", "b", "a"].map(str::to_owned);
        assert!(matches!(distinct(&names), Err(ProtocolError::SameName { name }) if name == "a"));
        distinct(&names[..2]).unwrap();
        assert_eq!(once("--shots", &[1, 4, 4]).unwrap_err().to_string(), "--shots holds 4 twice; leave one out");
        once("--shots", &[1, 4]).unwrap();
    }
}
