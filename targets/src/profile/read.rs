//! Where profiles come from: this crate, and folders that the user names.

use std::path::{Path, PathBuf};
use std::{env, fs};

use super::{Profile, ProfileError};

/// The environment variable that names folders of further profiles, with `:` between them.
pub const BOARDS_VARIABLE: &str = "EDGE_VIT_BOARDS";

macro_rules! shipped {
    ($($id:literal),* $(,)?) => {
        &[$(($id, include_str!(concat!("../../boards/", $id, ".toml")))),*]
    };
}

/// The profiles that come with this crate, in the order in which they are listed.
pub(super) const SHIPPED: &[(&str, &str)] = shipped![
    "raspberry-pi-zero-2-w",
    "raspberry-pi-3",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "jetson-nano",
    "jetson-xavier-nx",
    "jetson-orin-nano",
    "jetson-agx-orin",
    "generic-aarch64",
    "generic-x86_64",
];

/// The folders that [`BOARDS_VARIABLE`] names.
pub fn folders() -> Vec<PathBuf> {
    let value = env::var_os(BOARDS_VARIABLE).unwrap_or_default();
    env::split_paths(&value).filter(|path| !path.as_os_str().is_empty()).collect()
}

/// Every profile: those shipped and then those of the folders, in the order of their names. A folder's profile takes the
/// place of a shipped one of the same name, and a later folder's that of an earlier one.
///
/// # Errors
/// When a folder or a profile in it cannot be read, or a profile is not sound.
pub fn all(folders: &[PathBuf]) -> Result<Vec<Profile>, ProfileError> {
    let shipped = SHIPPED.iter().map(|(id, text)| Profile::parse(text, &format!("the profile {id}")));
    let mut profiles = shipped.collect::<Result<Vec<_>, _>>()?;
    for folder in folders {
        for path in files(folder)? {
            let text = fs::read_to_string(&path).map_err(|source| ProfileError::Read { path: path.clone(), source })?;
            let profile = Profile::parse(&text, &path.display().to_string())?;
            if path.file_stem().is_none_or(|stem| *stem != *profile.id) {
                let wrong = format!("is {:?}; expected the file's name without its ending", profile.id);
                return Err(ProfileError::Field { origin: path.display().to_string(), field: "id", wrong });
            }
            match profiles.iter_mut().find(|known| known.id == profile.id) {
                Some(known) => *known = profile,
                None => profiles.push(profile),
            }
        }
    }
    Ok(profiles)
}

/// The profile of that name.
///
/// # Errors
/// As [`all`], and [`ProfileError::Unknown`] with the names that are known.
pub fn find(id: &str, folders: &[PathBuf]) -> Result<Profile, ProfileError> {
    let mut profiles = all(folders)?;
    match profiles.iter().position(|profile| profile.id == id) {
        Some(position) => Ok(profiles.swap_remove(position)),
        None => {
            let known: Vec<_> = profiles.iter().map(|profile| profile.id.as_str()).collect();
            Err(ProfileError::Unknown { id: id.to_owned(), known: known.join(", ") })
        }
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, ProfileError> {
    let failed = |source| ProfileError::Read { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
