//! The arguments that say which pictures choose the epoch.

use crate::data::Group;

/// How validation pictures are split off where the data set sets none apart.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct SplitArgs {
    /// Share of the pictures that choose the epoch, where none are set apart
    #[arg(long, default_value_t = 0.15, help_heading = "Pictures")]
    pub(in crate::commands) val_fraction: f64,
    /// Pictures whose file names share their first N characters are not parted by the split
    #[arg(long, value_name = "N", conflicts_with = "group_before", help_heading = "Pictures")]
    group_prefix: Option<usize>,
    /// Pictures whose file names are the same before the first TEXT are not parted by the split
    #[arg(long, value_name = "TEXT", help_heading = "Pictures")]
    group_before: Option<String>,
}

impl SplitArgs {
    /// What makes pictures belong to one side of the split.
    pub(in crate::commands) fn group(&self) -> Option<Group> {
        match (&self.group_before, self.group_prefix) {
            (Some(separator), _) => Some(Group::Before(separator.clone())),
            (None, prefix) => prefix.map(Group::Prefix),
        }
    }
}
