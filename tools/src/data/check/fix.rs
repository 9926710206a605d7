//! What would mend a finding: a command line where the pictures are files of the data set, else a sentence.

use std::borrow::Cow;
use std::path::Path;

use crate::data::{Layout, Listing};

/// How pictures of a data set are taken out or renamed.
pub(super) struct Fix<'a> {
    listing: &'a Listing,
}

impl<'a> Fix<'a> {
    pub(super) fn of(listing: &'a Listing) -> Self {
        Self { listing }
    }

    /// Takes the picture out.
    pub(super) fn remove(&self, path: &Path) -> String {
        match self.listing.layout {
            Layout::Folders => format!("rm {}", quoted(path)),
            Layout::Csv | Layout::Lists => {
                format!("take the line of {} out of {}", path.display(), self.listing.path.display())
            }
            Layout::Parquet | Layout::Webdataset => self.packed_anew("leave the picture out"),
        }
    }

    /// Gives the picture the ending that its content has.
    pub(super) fn rename(&self, path: &Path, ending: &str) -> String {
        let new = path.with_extension(ending);
        match self.listing.layout {
            Layout::Folders => format!("mv -n {} {}", quoted(path), quoted(&new)),
            Layout::Csv | Layout::Lists => {
                format!(
                    "mv -n {} {}, and its line in {} with it",
                    quoted(path),
                    quoted(&new),
                    self.listing.path.display()
                )
            }
            Layout::Parquet | Layout::Webdataset => self.packed_anew("name the picture after its content"),
        }
    }

    /// Gives the picture the label that is right.
    pub(super) fn relabel(&self, path: &Path, label: &str) -> String {
        match self.listing.layout {
            Layout::Folders => {
                let folder = path.parent().and_then(Path::parent).unwrap_or(Path::new("")).join(label);
                format!("look at it; if it is `{label}`: mv -n {} {}/", quoted(path), quoted(&folder))
            }
            Layout::Csv | Layout::Lists => {
                format!("look at it; if it is `{label}`, change its line in {}", self.listing.path.display())
            }
            Layout::Parquet | Layout::Webdataset => {
                self.packed_anew(&format!("look at it; if it is `{label}`, change its label"))
            }
        }
    }

    fn packed_anew(&self, what: &str) -> String {
        format!("{what} and write {} anew", self.listing.path.display())
    }
}

/// As a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    // A leading hyphen would be an option.
    let text = if text.starts_with('-') { Cow::Owned(format!("./{text}")) } else { text };
    shell_words::quote(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn files_get_command_lines_and_packed_pictures_sentences() {
        let listing = |layout| Listing { path: "set".into(), layout, parts: BTreeMap::new() };
        let folders = listing(Layout::Folders);
        let fix = Fix::of(&folders);
        assert_eq!(fix.remove(Path::new("a b/it's.png")), r"rm 'a b/it'\''s.png'");
        assert_eq!(fix.remove(Path::new("-r/x.png")), "rm ./-r/x.png");
        assert_eq!(fix.rename(Path::new("a/x.png"), "jpg"), "mv -n a/x.png a/x.jpg");
        assert!(fix.relabel(Path::new("t/a/x.png"), "b c").ends_with("mv -n t/a/x.png 't/b c'/"));
        assert_eq!(Fix::of(&listing(Layout::Csv)).remove(Path::new("x.png")), "take the line of x.png out of set");
        assert!(Fix::of(&listing(Layout::Parquet)).remove(Path::new("x.png")).ends_with("write set anew"));
    }
}
