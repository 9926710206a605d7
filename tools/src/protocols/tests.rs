//! Whole protocols with a tiny random backbone on generated pictures, on the processor.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use edge_vit_models::adapter::{Adaptation, Comparison};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use tempfile::TempDir;

use super::domain::Domain;
use super::few_shot::FewShot;
use super::training::fold;
use super::vtab::{TASKS, Task};
use super::{Measurement, ProtocolError, vtab};
use crate::train::record::Record;
use crate::train::series::Spread;
use crate::train::tests::{CLASSES, SIDE, backbone, shape};
use crate::train::{DeviceChoice, Options, Recipe, TrainError, Validated};

/// A folder with a backbone and data sets.
struct Place {
    folder: TempDir,
    rng: ChaCha8Rng,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        backbone(&folder.path().join("backbone.safetensors"));
        Self { folder, rng: ChaCha8Rng::seed_from_u64(5) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn options(&self, data: &str, out: &str) -> Options {
        Options {
            backbone: self.path("backbone.safetensors"),
            data: self.path(data),
            out: self.path(out),
            recipe: Recipe {
                image_size: Some(SIDE),
                epochs: 3,
                batch_size: 8,
                lr: 1e-2,
                drop_path: 0.0,
                ..Recipe::default()
            },
            device: DeviceChoice::Cpu,
            cache_limit: 1 << 30,
            checkpoint_activations: false,
            probe: false,
            resume: false,
            stop: Arc::default(),
        }
    }

    /// `count` pictures of a class in `folder`, as paths relative to the place.
    fn pictures(&mut self, folder: &str, class: usize, count: usize) -> Vec<String> {
        fs::create_dir_all(self.path(folder)).unwrap();
        let names: Vec<String> = (0..count).map(|n| format!("{folder}/{class}-{n:02}.png")).collect();
        for name in &names {
            shape(class, &mut self.rng).save(self.path(name)).unwrap();
        }
        names
    }

    /// A folder a class.
    fn classes(&mut self, folder: &str, count: usize) {
        for (class, label) in CLASSES.iter().enumerate() {
            self.pictures(&format!("{folder}/{label}"), class, count);
        }
    }

    /// A task as the authors' archive has it, with `pictures` of each class in each list.
    fn task(&mut self, name: &str, lists: &[(&str, usize)]) {
        for (list, count) in lists {
            let mut lines = String::new();
            for class in 0..CLASSES.len() {
                for path in self.pictures(&format!("vtab/{name}/images/{list}"), class, *count) {
                    lines += &format!("{} {class}\n", path.trim_start_matches(&format!("vtab/{name}/")));
                }
            }
            fs::write(self.path(&format!("vtab/{name}/{list}.txt")), lines).unwrap();
        }
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path(path)).unwrap()).unwrap()
    }

    /// How many of the pictures are called what they are, by the model of the training in `run`.
    fn right(&self, run: &str, strength: f64, pictures: &[(PathBuf, usize)]) -> usize {
        let adapters = self.path(run).join("adapters.safetensors");
        let model = fold(&self.path("backbone.safetensors"), &adapters, strength).unwrap();
        let called = |path: &Path| {
            let logits = model.logits(&edge_vit::open_picture(path).unwrap()).unwrap();
            (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap()
        };
        pictures.iter().filter(|(path, class)| called(path) == *class).count()
    }
}

const LISTS: [(&str, usize); 3] = [("train800", 8), ("val200", 4), ("test", 5)];

fn tasks(names: &[&str]) -> Vec<Task> {
    TASKS.into_iter().filter(|(name, _)| names.contains(name)).collect()
}

fn quiet(_: &str, _: Record) {}

/// What was measured. A mean that was read from a file may differ in its last digit.
fn told(measured: &[Measurement]) -> Vec<(&str, Validated, [usize; 2])> {
    let measured = measured
        .iter()
        .map(|Measurement { name, kept, figures, .. }| (name.as_str(), *kept, [figures.top1.correct, figures.top1.of]));
    measured.collect()
}

#[test]
fn tasks_of_vtab_are_measured_once_and_those_that_are_missing_named() {
    let mut place = Place::new();
    place.task("cifar", &LISTS);
    place.task("svhn", &LISTS);
    let options = place.options("vtab", "out");
    let asked = tasks(&["svhn", "cifar", "eurosat"]);
    let whole = vtab::run(&options, &asked, false, &mut quiet).unwrap();
    assert_eq!((&whole.missing[..], whole.measured.failed.len()), (&["eurosat"][..], 0));
    let names: Vec<&str> = whole.measured.measurements.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["cifar", "svhn"]);
    for Measurement { name, figures, kept, .. } in &whole.measured.measurements {
        let pictures = |class: usize| {
            let folder = place.path(&format!("vtab/{name}/images/test"));
            (0..5).map(move |n| (folder.join(format!("{class}-{n:02}.png")), class))
        };
        let test: Vec<_> = (0..CLASSES.len()).flat_map(pictures).collect();
        assert_eq!((figures.top1.of, figures.classes), (15, 3));
        assert_eq!(figures.top1.correct, place.right(&format!("out/{name}"), 1.0, &test));
        // Chance is a third, and the shapes have colours.
        assert!(figures.top1.correct > 7 && kept.val_top1 > 0.5, "{figures:?} {kept:?}");
    }
    let file = place.json("out/vtab.json");
    assert_eq!(file["trials"].as_array().unwrap().len(), 2);
    assert_eq!((&file["missing"][0], &file["means"]["natural"]), (&Value::from("eurosat"), &Value::Null));
    let near = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 0.051;
    assert!(near(&file["published_means"]["RepAdapter"]["mean_of_groups"], 76.1));
    let table = whole.to_markdown("repadapter");
    let line = |name: &str| table.lines().find(|line| line.starts_with(&format!("| {name} "))).unwrap().to_owned();
    assert!(line("cifar").contains(" 72.4 ") && line("mean of natural").contains(" - "), "{table}");
    assert!(table.contains("\nNo figure: caltech101, "), "{table}");
    assert_eq!(whole.lines().len(), 3);

    let refused = |options: &Options| vtab::run(options, &asked, false, &mut quiet).unwrap_err();
    assert!(matches!(refused(&options), ProtocolError::Train(TrainError::RunThere { .. })));
    let resume = Options { resume: true, ..options };
    let mut records = 0;
    let again = vtab::run(&resume, &asked, false, &mut |_, _| records += 1).unwrap();
    assert_eq!((told(&again.measured.measurements), records), (told(&whole.measured.measurements), 0));
    let mut other = resume;
    other.recipe.lr = 1e-3;
    assert!(matches!(refused(&other), ProtocolError::Train(TrainError::Differs { .. })));
}

#[test]
fn a_task_that_fails_does_not_lose_the_others_and_is_tried_again() {
    let mut place = Place::new();
    place.task("cifar", &LISTS[..2]);
    place.task("svhn", &LISTS);
    let mut options = place.options("vtab", "out");
    options.recipe.epochs = 1;
    let asked = tasks(&["cifar", "svhn"]);
    let first = vtab::run(&options, &asked, false, &mut quiet).unwrap();
    assert_eq!((first.measured.measurements.len(), first.measured.failed[0].name.as_str()), (1, "cifar"));
    assert!(first.measured.failed[0].reason.contains("test.txt"), "{:?}", first.measured.failed);
    place.task("cifar", &LISTS);
    let mut trained = Vec::new();
    let resume = Options { resume: true, ..options.clone() };
    let second = vtab::run(&resume, &asked, false, &mut |folder, _| trained.push(folder.to_owned())).unwrap();
    assert!(second.measured.failed.is_empty() && trained.iter().all(|folder| folder == "cifar") && !trained.is_empty());
    let [_, svhn] = &second.measured.measurements[..] else { panic!("{:?}", second.measured) };
    assert_eq!(told(std::slice::from_ref(svhn)), told(&first.measured.measurements));

    let nothing = vtab::run(&place.options("vtab", "none"), &tasks(&["dmlab"]), false, &mut quiet).unwrap_err();
    assert!(nothing.to_string().contains("dmlab"), "{nothing}");
    options.recipe.adapters = Adaptation::Comparison(Comparison::Adapter { hidden: 4 });
    options.out = place.path("comparison");
    let refused = vtab::run(&options, &asked, false, &mut quiet).unwrap_err();
    assert!(matches!(&refused, ProtocolError::NotFolded { method } if method == "adapter"), "{refused}");
    assert!(!options.out.exists());
}

#[test]
fn few_shots_are_trained_for_each_seed_and_gone_on_with() {
    let mut place = Place::new();
    place.classes("shapes/train", 8);
    place.classes("shapes/test", 4);
    place.classes("untested", 8);
    let mut options = place.options("", "out");
    options.recipe.epochs = 2;
    let data = [place.path("shapes"), place.path("untested")];
    let asked = || FewShot::new(&data, &[1, 4, 9], &[3, 7]).unwrap();
    let stop = Arc::clone(&options.stop);
    let stopped = asked().run(&options, false, &mut |folder, record| {
        if folder == "shapes/shots-4/seed-3" && matches!(record, Record::Step { step: 2, .. }) {
            stop.store(true, Ordering::Relaxed);
        }
    });
    let stopped = stopped.unwrap();
    assert_eq!((stopped.measured.measurements.len(), stopped.measured.interrupted), (2, true));

    let mut trained = Vec::new();
    let resume = Options { resume: true, stop: Arc::default(), ..options };
    let whole = asked().run(&resume, false, &mut |folder, record| {
        if let Record::Run { train, .. } = record {
            trained.push((folder.to_owned(), train));
        }
    });
    let whole = whole.unwrap();
    let expected = [("shapes/shots-4/seed-3", 12), ("shapes/shots-4/seed-7", 12)];
    assert_eq!(trained, expected.map(|(folder, train)| (folder.to_owned(), train)));
    assert_eq!(told(&whole.measured.measurements[..2]), told(&stopped.measured.measurements));
    // Nine of eight pictures, and all of the data set that has nothing to measure on.
    assert_eq!(whole.measured.failed.len(), 2 + 6);
    assert!(whole.measured.failed[0].reason.contains("--shots 9"), "{:?}", whole.measured.failed);
    assert!(whole.measured.failed[2].reason.contains("has no test part"), "{:?}", whole.measured.failed);

    let cells = whole.cells();
    let percents: Vec<f64> = whole.measured.measurements[2..].iter().map(|run| run.figures.percent()).collect();
    assert_eq!((cells[1].shots, cells[1].runs, cells[1].top1), (4, 2, Spread::of_figures(&percents)));
    assert_eq!((cells[2].runs, cells[2].top1), (0, None));
    assert_eq!(place.json("out/few-shot.json")["cells"][1]["top1"]["mean"], cells[1].top1.unwrap().mean);
    let table = whole.to_markdown();
    assert!(table.starts_with("| top-1 %  | ") && table.contains(" 1 shot |") && table.contains(" ± "), "{table}");
    assert!(matches!(FewShot::new(&data, &[1, 1], &[0]), Err(ProtocolError::Twice { .. })));
}

#[test]
fn the_strength_is_chosen_on_validation_pictures_and_classes_are_found_by_name() {
    let mut place = Place::new();
    place.classes("shapes/train", 12);
    place.classes("shapes/test", 4);
    // The second domain has two of the classes, and one that is not known.
    place.pictures("drawn/ring", 1, 4);
    place.pictures("drawn/disc", 0, 3);
    place.pictures("drawn/star", 2, 2);
    let options = place.options("shapes", "out");
    let tests = [("home", "shapes"), ("drawn", "drawn"), ("gone", "gone"), ("trained", "shapes/train")];
    let tests = tests.map(|(name, path)| (name.to_owned(), place.path(path)));
    let asked = || Domain::new(&tests, &[0.0, 0.5, 1.0]).unwrap();
    let whole = asked().run(&options, false, &mut quiet).unwrap();
    let failed: Vec<&str> = whole.measured.failed.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(failed, ["gone", "trained"]);
    let figures = |name: &str| &whole.measured.find(name).unwrap().figures;
    let kept = whole.measured.measurements[0].kept;
    let validation = figures("strength-1/validation");
    assert!((validation.top1.share - f64::from(kept.val_top1)).abs() < 1e-6, "{validation:?} {kept:?}");
    let all = ["0", "0.5", "1"].map(|strength| figures(&format!("strength-{strength}/validation")).top1.correct);
    let chosen = whole.chosen.unwrap();
    let of_chosen = figures(&format!("strength-{chosen}/validation")).top1.correct;
    assert_eq!(of_chosen, all.into_iter().max().unwrap());

    let test: Vec<(PathBuf, usize)> = (CLASSES.iter().enumerate())
        .flat_map(|(class, label)| (0..4).map(move |n| (format!("shapes/test/{label}/{class}-{n:02}.png"), class)))
        .map(|(path, class)| (place.path(&path), class))
        .collect();
    for strength in [0.0, 1.0] {
        let home = figures(&format!("strength-{strength}/home")).top1;
        assert_eq!((home.correct, home.of), (place.right("out/training", strength, &test), 12));
    }
    let drawn = figures("strength-1/drawn");
    assert_eq!((drawn.top1.of, drawn.classes, &drawn.missing_classes[..]), (7, 2, &["square".to_owned()][..]));
    assert_eq!((drawn.unknown_classes[0].name.as_str(), drawn.unknown_classes[0].pictures), ("star", 2));
    let table = whole.to_markdown();
    assert!(table.contains(&format!("| {chosen} (chosen) ")), "{table}");
    assert!(table.contains("- drawn: 7 pictures of 2 classes; 1 classes of the model are missing"), "{table}");

    let mut records = 0;
    let again = asked().run(&Options { resume: true, ..options }, false, &mut |_, record| {
        records += usize::from(matches!(record, Record::Step { .. }));
    });
    let again = again.unwrap();
    assert_eq!((told(&again.measured.measurements), records), (told(&whole.measured.measurements), 0));
    assert_eq!((again.chosen, again.measured.failed), (whole.chosen, whole.measured.failed.clone()));
    assert_eq!(place.json("out/domain.json")["chosen"]["strength"], chosen);
    let twice = Domain::new(&[("validation".to_owned(), place.path("drawn"))], &[1.0]).unwrap_err();
    assert!(matches!(twice, ProtocolError::SameName { .. }), "{twice}");
}

#[test]
fn pictures_that_were_trained_on_do_not_measure_the_result() {
    let mut place = Place::new();
    place.classes("shapes", 8);
    let mut options = place.options("shapes", "out");
    options.recipe.epochs = 1;
    let asked = Domain::new(&[("home".to_owned(), place.path("shapes"))], &[1.0]).unwrap();
    let ended = asked.run(&options, false, &mut quiet).unwrap();
    assert_eq!((ended.measured.measurements.len(), ended.chosen), (1, Some(1.0)));
    assert!(ended.measured.failed[0].reason.contains("trained on"), "{:?}", ended.measured.failed);
}

#[test]
fn a_search_may_choose_the_scale_of_each_task() {
    let mut place = Place::new();
    place.task("cifar", &LISTS);
    let mut options = place.options("vtab", "out");
    options.recipe.epochs = 1;
    let whole = vtab::run(&options, &tasks(&["cifar"]), true, &mut quiet).unwrap();
    let search = place.json("out/cifar/search.json");
    let best = search["best"].as_str().unwrap();
    let trial = search["trials"].as_array().unwrap().iter().find(|trial| trial["folder"] == best).unwrap();
    let epoch = whole.measured.measurements[0].kept.epoch;
    assert_eq!(trial["kept"]["epoch"], epoch);
    assert!(place.path(&format!("out/cifar/{best}/adapters.safetensors")).exists());
}
