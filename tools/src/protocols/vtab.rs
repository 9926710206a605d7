//! VTAB-1k (Zhai et al. 2019, arXiv 1910.04867): 19 tasks of 1000 pictures each, in three groups.

use std::path::Path;

use edge_vit::Bundle;
use serde_json::{Map, Value, json};

use super::table::{markdown, percent};
use super::training::{begin, fold, train, whole};
use super::{Figures, Measured, Measurement, PUBLISHED, ProtocolError};
use crate::evaluate::Samples;
use crate::train::Options;
use crate::train::series::{Ledger, Records};

/// The kinds of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Things as a camera sees them.
    Natural,
    /// Pictures of special instruments: of tissue, from satellites.
    Specialized,
    /// Counts, distances and angles, most of them in rendered scenes.
    Structured,
}

impl Group {
    /// All, in the order of the tables.
    pub const ALL: [Self; 3] = [Self::Natural, Self::Specialized, Self::Structured];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Natural => "natural",
            Self::Specialized => "specialized",
            Self::Structured => "structured",
        }
    }
}

/// A task, by the name of its folder in the authors' archive, and its group.
pub type Task = (&'static str, Group);

/// All tasks, in the order of the published tables.
pub const TASKS: [Task; 19] = [
    ("cifar", Group::Natural),
    ("caltech101", Group::Natural),
    ("dtd", Group::Natural),
    ("oxford_flowers102", Group::Natural),
    ("oxford_iiit_pet", Group::Natural),
    ("svhn", Group::Natural),
    ("sun397", Group::Natural),
    ("patch_camelyon", Group::Specialized),
    ("eurosat", Group::Specialized),
    ("resisc45", Group::Specialized),
    ("diabetic_retinopathy", Group::Specialized),
    ("clevr_count", Group::Structured),
    ("clevr_dist", Group::Structured),
    ("dmlab", Group::Structured),
    ("kitti", Group::Structured),
    ("dsprites_loc", Group::Structured),
    ("dsprites_ori", Group::Structured),
    ("smallnorb_azi", Group::Structured),
    ("smallnorb_ele", Group::Structured),
];

/// The lists of a task that are read.
const LISTS: [&str; 3] = ["train800.txt", "val200.txt", "test.txt"];

/// The means over tasks of a group, and their mean, in percent: each none where a task of it has no figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Means {
    /// In the order of [`Group::ALL`].
    pub groups: [Option<f64>; 3],
    /// The mean of the groups' means, which is not that of the tasks.
    pub overall: Option<f64>,
}

impl Means {
    /// Of the figures of all tasks, in the order of [`TASKS`].
    pub fn of(figures: &[Option<f64>; 19]) -> Self {
        let groups = Group::ALL.map(|group| {
            let own = TASKS.iter().zip(figures).filter(|((_, of), _)| *of == group);
            mean(&own.map(|(_, figure)| *figure).collect::<Vec<_>>())
        });
        Self { groups, overall: mean(&groups) }
    }
}

/// The mean where all figures are there.
fn mean(figures: &[Option<f64>]) -> Option<f64> {
    let sum: f64 = figures.iter().copied().sum::<Option<f64>>()?;
    Some(sum / figures.len() as f64)
}

/// What came of VTAB-1k.
#[derive(Debug, Clone, PartialEq)]
pub struct Vtab {
    /// The tasks that were measured, and those that failed.
    pub measured: Measured,
    /// Tasks that were asked for and are not there.
    pub missing: Vec<&'static str>,
}

/// Trains on `train800.txt` of each of `tasks`, chooses the epoch (with `search` the scale and the width too) by `val200.txt`, and
/// measures once on `test.txt`. The data of `options` is the folder of the tasks; results lie in `vtab.json` and in a folder a task
/// below their out.
///
/// # Errors
/// When nothing can begin. What fails in one task stands in [`Measured::failed`].
pub fn run(options: &Options, tasks: &[Task], search: bool, records: Records<'_>) -> Result<Vtab, ProtocolError> {
    let root = &options.data;
    let (there, missing): (Vec<Task>, Vec<Task>) = tasks.iter().partition(|(name, _)| root.join(name).is_dir());
    let missing: Vec<&'static str> = missing.iter().map(|(name, _)| *name).collect();
    if there.is_empty() {
        let names = missing.iter().map(|&name| name.to_owned()).collect();
        return Err(ProtocolError::NoTask { root: root.clone(), names });
    }
    let asked = begin(options, json!({ "data": whole(root), "search": search }))?;
    let mut ledger = Ledger::open(&options.out, options.resume, "vtab.json", &asked)?;
    let mut vtab = Vtab { measured: Measured::default(), missing };
    for (name, group) in there {
        let one = || task(options, name, group, search, &mut *records);
        if !vtab.measured.part(&mut ledger, name, one)? {
            break;
        }
    }
    ledger.conclude(vtab.summary())?;
    Ok(vtab)
}

fn task(
    options: &Options,
    name: &str,
    group: Group,
    search: bool,
    records: Records<'_>,
) -> Result<Option<Measurement>, ProtocolError> {
    let data = options.data.join(name);
    check_lists(&data)?;
    let Some(trained) = train(options, search, &data, name, records)? else { return Ok(None) };
    let classifier = fold(&options.backbone, &trained.adapters, 1.0)?;
    let Bundle { labels, preprocessing, .. } = classifier.bundle();
    let samples = Samples::test(&data, labels)?.filmstrips(preprocessing.frames)?;
    log::info!("{name}: measuring on {} test pictures", samples.pictures.len());
    let figures = Figures::of(&classifier, &samples)?;
    let settings = Map::from_iter([("group".to_owned(), Value::from(group.name()))]);
    Ok(Some(Measurement { name: name.to_owned(), settings, kept: trained.kept, figures }))
}

/// Checks that the lists of a task are there: without one, others would be taken in its place.
fn check_lists(data: &Path) -> Result<(), ProtocolError> {
    match LISTS.iter().find(|list| !data.join(list).is_file()) {
        Some(list) => Err(ProtocolError::NoList { path: data.to_owned(), list }),
        None => Ok(()),
    }
}

impl Vtab {
    /// Top-1 in percent of all tasks, in the order of [`TASKS`].
    pub fn top1(&self) -> [Option<f64>; 19] {
        TASKS.map(|(name, _)| self.measured.find(name).map(|task| task.figures.percent()))
    }

    /// A table of the tasks with the published figures beside ours, and the means.
    pub fn to_markdown(&self, method: &str) -> String {
        let header = ["VTAB-1k, top-1 %", method, "95 % interval"].map(str::to_owned).into_iter();
        let header: Vec<String> =
            header.chain(PUBLISHED.map(|published| format!("{} (published)", published.method))).collect();
        let ours = self.top1();
        let means = Means::of(&ours);
        let published = PUBLISHED.map(|published| (published, Means::of(&published.top1.map(Some))));
        let mut rows = Vec::new();
        for (at, group) in Group::ALL.into_iter().enumerate() {
            for (task, (name, _)) in TASKS.iter().enumerate().filter(|(_, (_, of))| *of == group) {
                let interval = self.measured.find(name).map(|task| task.figures.top1);
                let interval = interval
                    .map_or("-".to_owned(), |share| format!("{:.1} to {:.1}", 100.0 * share.low, 100.0 * share.high));
                let figures = published.iter().map(|(published, _)| percent(Some(published.top1[task])));
                rows.push([(*name).to_owned(), percent(ours[task]), interval].into_iter().chain(figures).collect());
            }
            let figures = published.iter().map(|(_, means)| percent(means.groups[at]));
            let first = [format!("mean of {}", group.name()), percent(means.groups[at]), String::new()];
            rows.push(first.into_iter().chain(figures).collect());
        }
        let figures = published.iter().map(|(_, means)| percent(means.overall));
        let first = ["mean of the three".to_owned(), percent(means.overall), String::new()];
        rows.push(first.into_iter().chain(figures).collect());
        let mut text = markdown(&header, &rows);
        let without: Vec<&str> =
            TASKS.iter().zip(&ours).filter(|(_, top1)| top1.is_none()).map(|((name, _), _)| *name).collect();
        if !without.is_empty() {
            text +=
                &format!("\nNo figure: {}. A mean stands where all tasks of the group have one.\n", without.join(", "));
        }
        text
    }

    /// A line of JSON for each task that was measured, and one for the whole.
    pub fn lines(&self) -> Vec<Value> {
        let published = |name: &str| -> Map<String, Value> {
            let at = TASKS.iter().position(|(task, _)| *task == name);
            PUBLISHED.iter().filter_map(|of| Some((of.method.to_owned(), json!(of.top1[at?])))).collect()
        };
        let task = |task: &Measurement| json!({ "kind": "task", "task": task, "published": published(&task.name) });
        let mut whole = Map::from_iter([("kind".to_owned(), json!("whole"))]);
        whole.extend(self.summary());
        self.measured.measurements.iter().map(task).chain([Value::Object(whole)]).collect()
    }

    fn summary(&self) -> Map<String, Value> {
        let told = |means: Means| {
            let groups =
                Group::ALL.iter().zip(means.groups).map(|(group, mean)| (group.name().to_owned(), json!(mean)));
            let overall = ("mean_of_groups".to_owned(), json!(means.overall));
            Value::Object(groups.chain([overall]).collect())
        };
        let published: Map<String, Value> = (PUBLISHED.iter())
            .map(|published| (published.method.to_owned(), told(Means::of(&published.top1.map(Some)))))
            .collect();
        Map::from_iter([
            ("means".to_owned(), told(Means::of(&self.top1()))),
            ("published_means".to_owned(), Value::Object(published)),
            ("missing".to_owned(), json!(self.missing)),
            ("failed".to_owned(), json!(self.measured.failed)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_means_follow_from_the_published_tasks() {
        let means = |published: &super::super::Published| Means::of(&published.top1.map(Some));
        for (published, overall) in PUBLISHED.iter().zip([76.1, 74.6, 57.6, 69.0]) {
            let mean = means(published).overall.unwrap();
            assert!((mean - overall).abs() < 0.051, "{}: {mean}", published.method);
        }
        // Of the paper's table for RepAdapter.
        let groups = means(&PUBLISHED[0]).groups.map(Option::unwrap);
        assert!(groups.iter().zip([81.6, 85.4, 61.2]).all(|(mean, told)| (mean - told).abs() < 0.051), "{groups:?}");
    }

    #[test]
    fn a_mean_stands_where_its_group_is_complete() {
        let mut figures = PUBLISHED[0].top1.map(Some);
        figures[8] = None;
        let means = Means::of(&figures);
        assert!(means.groups[0].is_some() && means.groups[2].is_some());
        assert_eq!((means.groups[1], means.overall), (None, None));
    }
}
