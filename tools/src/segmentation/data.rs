//! Pictures with a mask each: `DIR/images/NAME.jpg` and `DIR/masks/NAME.png`, or such folders in `DIR/train`, `DIR/val` and
//! `DIR/test`; the names of the classes, a line each, in `DIR/labels.txt`.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use edge_vit::{MAX_CLASSES, Mask, NO_CLASS};
use image::{ImageDecoder as _, ImageReader};
use rayon::prelude::*;

use super::SegmentationError;
use crate::data::{DataError, Dataset, Part, Picture, PictureSet, find_pictures};

const IMAGES: &str = "images";
const MASKS: &str = "masks";
const LABELS: &str = "labels.txt";
/// The parts that folders are named after.
const PARTS: [(&str, Part); 3] = [("train", Part::Train), ("val", Part::Val), ("test", Part::Test)];

/// A picture and its mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedPicture {
    /// The picture.
    pub path: PathBuf,
    /// The class of each of its pixels, as a PNG of its size.
    pub mask: PathBuf,
}

impl MaskedPicture {
    /// The mask, which has the picture's size as it is shown, and holds classes below `classes` and [`NO_CLASS`] alone.
    ///
    /// # Errors
    /// When it cannot be read, has another size than the picture, or a value that is no class.
    pub fn read_mask(&self, classes: usize) -> Result<Mask, SegmentationError> {
        let failed = |reason: String| SegmentationError::Mask { path: self.mask.clone(), reason };
        let bytes = fs::read(&self.mask).map_err(|error| failed(error.to_string()))?;
        let mask = Mask::from_png(&bytes).map_err(|error| failed(error.to_string()))?;
        let got = [mask.width(), mask.height()];
        // Where the picture cannot be read, that is said where it is read.
        if let Some([width, height]) = picture_size(&self.path).filter(|size| *size != got) {
            let picture = self.path.display();
            return Err(failed(format!("it is {}x{}, and its picture {picture} is {width}x{height}", got[0], got[1])));
        }
        let is_strange = |value: u8| value != NO_CLASS && usize::from(value) >= classes;
        if let Some(at) = mask.classes().iter().position(|&value| is_strange(value)) {
            let (x, y) = (at % got[0] as usize, at / got[0] as usize);
            let value = mask.classes()[at];
            return Err(failed(format!(
                "the value {value} at column {x}, row {y} is no class; there are 0 to {}, and {NO_CLASS} for what is not counted",
                classes.saturating_sub(1)
            )));
        }
        Ok(mask)
    }
}

/// Width and height of a picture as it is shown, from its header; `None` where that cannot be read.
fn picture_size(path: &Path) -> Option<[u32; 2]> {
    use image::metadata::Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let mut decoder = ImageReader::open(path).ok()?.with_guessed_format().ok()?.into_decoder().ok()?;
    let (width, height) = decoder.dimensions();
    let turned = matches!(decoder.orientation(), Ok(Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH));
    Some(if turned { [height, width] } else { [width, height] })
}

/// Pictures of one part of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedSet {
    /// The folder that holds `images` and `masks`.
    pub path: PathBuf,
    /// Sorted by name.
    pub pictures: Vec<MaskedPicture>,
}

impl MaskedSet {
    fn read(path: &Path) -> Result<Self, SegmentationError> {
        let masks = path.join(MASKS);
        let of = |picture: PathBuf| {
            let mut name = picture.file_stem().unwrap_or_default().to_owned();
            name.push(".png");
            let mask = masks.join(name);
            match mask.is_file() {
                true => Ok(MaskedPicture { path: picture, mask }),
                false => Err(SegmentationError::NoMask { picture, mask }),
            }
        };
        let pictures = find_pictures(&path.join(IMAGES))?.into_iter().map(of).collect::<Result<Vec<_>, _>>()?;
        match pictures.is_empty() {
            true => Err(DataError::NoPictures { path: path.to_owned() }.into()),
            false => Ok(Self { path: path.to_owned(), pictures }),
        }
    }
}

/// All that a data set holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedListing {
    /// Where it is.
    pub path: PathBuf,
    /// The names that its `labels.txt` gives the classes, in their order, where there is one.
    pub labels: Option<Vec<String>>,
    /// The parts.
    pub parts: BTreeMap<Part, MaskedSet>,
}

impl MaskedListing {
    /// Lists the pictures at `path`. The file of names of a part named by itself may lie in the folder above.
    ///
    /// # Errors
    /// When there is no such data set, a picture has no mask, or names are wrong.
    pub fn read(path: &Path) -> Result<Self, SegmentationError> {
        let holds = |path: &Path| path.join(IMAGES).is_dir() && path.join(MASKS).is_dir();
        let mut parts = BTreeMap::new();
        for (name, part) in PARTS {
            let folder = path.join(name);
            if holds(&folder) {
                parts.insert(part, MaskedSet::read(&folder)?);
            }
        }
        let mut labels_at = vec![path.join(LABELS)];
        if parts.is_empty() {
            if !holds(path) {
                return Err(SegmentationError::NotMasked { path: path.to_owned() });
            }
            let own = PARTS.into_iter().find(|(name, _)| path.file_name().is_some_and(|own| own == *name));
            if own.is_some() {
                labels_at.extend(path.parent().map(|above| above.join(LABELS)));
            }
            parts.insert(own.map_or(Part::Whole, |(_, part)| part), MaskedSet::read(path)?);
        }
        let labels = labels_at.iter().find(|path| path.is_file()).map(|path| read_labels(path)).transpose()?;
        Ok(Self { path: path.to_owned(), labels, parts })
    }

    /// The part to measure a model of the classes `labels` on: that for test, else that for validation, else all.
    ///
    /// # Errors
    /// When there are training pictures alone, or its classes are others.
    pub fn to_measure(mut self, labels: &[String]) -> Result<(Part, MaskedSet), SegmentationError> {
        self.check_labels(labels)?;
        for part in [Part::Test, Part::Val, Part::Whole] {
            if let Some(set) = self.parts.remove(&part) {
                return Ok((part, set));
            }
        }
        Err(SegmentationError::OnlyTrain { path: self.path })
    }

    /// The part that a choice may be made by for a model of the classes `labels`: that for validation, else all.
    ///
    /// # Errors
    /// When there are training or test pictures alone, or its classes are others.
    pub fn to_choose_by(mut self, labels: &[String]) -> Result<MaskedSet, SegmentationError> {
        self.check_labels(labels)?;
        let found = [Part::Val, Part::Whole].into_iter().find_map(|part| self.parts.remove(&part));
        found.ok_or(SegmentationError::NothingToChooseBy { path: self.path })
    }

    fn check_labels(&self, labels: &[String]) -> Result<(), SegmentationError> {
        match &self.labels {
            Some(own) if own != labels => {
                let (expected, got) = (labels.join(", "), own.join(", "));
                Err(SegmentationError::OtherLabels { path: self.path.clone(), expected, got })
            }
            _ => Ok(()),
        }
    }
}

/// The names of the classes, a line each.
fn read_labels(path: &Path) -> Result<Vec<String>, SegmentationError> {
    let failed = |reason: String| SegmentationError::Labels { path: path.to_owned(), reason };
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let labels: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    let mut seen = HashSet::new();
    for (number, label) in labels.iter().enumerate() {
        if label.is_empty() {
            return Err(failed(format!("line {} is empty; it names class {number}", number + 1)));
        }
        if !seen.insert(label) {
            return Err(failed(format!("line {}: `{label}` comes twice", number + 1)));
        }
    }
    match labels.len() {
        2..=MAX_CLASSES => Ok(labels),
        got => Err(failed(format!("it names {got} classes; 2 to {MAX_CLASSES} can be told apart"))),
    }
}

/// What of a data set a training may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedDataset {
    /// Names of the classes.
    pub labels: Vec<String>,
    /// To train on; to be split where [`MaskedDataset::val`] is none.
    pub train: MaskedSet,
    /// To choose the epoch by.
    pub val: Option<MaskedSet>,
}

impl MaskedDataset {
    /// Reads the training and validation pictures of `path`. Test pictures are left alone. Where no file names the classes, they
    /// are called by their numbers, up to the largest in the masks.
    ///
    /// # Errors
    /// As [`MaskedListing::read`]; when there is nothing to train on, or, without names, a mask cannot be read or there is but one
    /// class.
    pub fn read(path: &Path) -> Result<Self, SegmentationError> {
        let MaskedListing { path, labels, mut parts } = MaskedListing::read(path)?;
        let train = parts.remove(&Part::Train).or_else(|| parts.remove(&Part::Whole));
        let Some(train) = train else { return Err(DataError::NoTrain { path }.into()) };
        let val = parts.remove(&Part::Val);
        let labels = match labels {
            Some(labels) => labels,
            None => {
                let pictures: Vec<&MaskedPicture> =
                    [Some(&train), val.as_ref()].into_iter().flatten().flat_map(|set| &set.pictures).collect();
                numbers(&path, &pictures)?
            }
        };
        Ok(Self { labels, train, val })
    }

    /// The pictures as of one class, for what patches are to answer stands elsewhere.
    pub fn unlabelled(&self) -> Dataset {
        let set = |set: &MaskedSet| PictureSet {
            path: set.path.clone(),
            labels: vec!["pictures with masks".to_owned()],
            pictures: set
                .pictures
                .iter()
                .map(|of| Picture { path: of.path.clone(), label: 0, group: None, film: None })
                .collect(),
        };
        Dataset { train: set(&self.train), val: self.val.as_ref().map(set) }
    }

    /// All pictures, those to train on first.
    pub fn pictures(&self) -> impl Iterator<Item = &MaskedPicture> {
        [Some(&self.train), self.val.as_ref()].into_iter().flatten().flat_map(|set| &set.pictures)
    }
}

/// The numbers of the classes in the masks of `pictures`, as names.
fn numbers(path: &Path, pictures: &[&MaskedPicture]) -> Result<Vec<String>, SegmentationError> {
    let largest = |picture: &&MaskedPicture| {
        let mask = picture.read_mask(MAX_CLASSES)?;
        Ok(mask.classes().iter().copied().filter(|&value| value != NO_CLASS).max())
    };
    let largest: Vec<Option<u8>> = pictures.par_iter().map(largest).collect::<Result<_, SegmentationError>>()?;
    match largest.into_iter().flatten().max() {
        Some(largest) if largest > 0 => Ok((0..=largest).map(|number| number.to_string()).collect()),
        found => Err(DataError::TooFewClasses { path: path.to_owned(), found: usize::from(found.is_some()) }.into()),
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    fn picture(path: &Path, width: u32, height: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::new(width, height).save(path).unwrap();
    }

    fn mask(path: &Path, width: u32, classes: &[u8]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mask = Mask::new(width, classes.len() as u32 / width, classes.to_vec()).unwrap();
        fs::write(path, mask.to_png().unwrap()).unwrap();
    }

    fn pair(folder: &Path, name: &str, classes: &[u8]) {
        picture(&folder.join("images").join(format!("{name}.png")), 2, classes.len() as u32 / 2);
        mask(&folder.join("masks").join(format!("{name}.png")), 2, classes);
    }

    #[test]
    fn parts_and_names_are_found_and_numbers_stand_in_for_names() {
        let root = tempfile::tempdir().unwrap();
        pair(root.path(), "b", &[0, 1, 2, NO_CLASS]);
        pair(root.path(), "a", &[0, 0]);
        let whole = MaskedDataset::read(root.path()).unwrap();
        assert_eq!(whole.labels, ["0", "1", "2"]);
        assert_eq!(
            whole.pictures().map(|picture| picture.mask.clone()).collect::<Vec<_>>(),
            [root.path().join("masks/a.png"), root.path().join("masks/b.png")]
        );
        assert_eq!(whole.val, None);

        let root = tempfile::tempdir().unwrap();
        for part in ["train", "val", "test"] {
            pair(&root.path().join(part), part, &[0, 1]);
        }
        fs::write(root.path().join("labels.txt"), "ground\nhand\n").unwrap();
        let parts = MaskedDataset::read(root.path()).unwrap();
        assert_eq!(parts.labels, ["ground", "hand"]);
        assert_eq!((parts.train.pictures.len(), parts.val.unwrap().path), (1, root.path().join("val")));
        let labels = ["ground", "hand"].map(str::to_owned);
        let measured = |path: &Path, labels: &[String]| MaskedListing::read(path).unwrap().to_measure(labels);
        assert_eq!(measured(root.path(), &labels).unwrap().0, Part::Test);
        assert_eq!(measured(&root.path().join("val"), &labels).unwrap().0, Part::Val);
        assert!(matches!(measured(&root.path().join("train"), &labels), Err(SegmentationError::OnlyTrain { .. })));
        assert!(matches!(measured(root.path(), &labels[..1]), Err(SegmentationError::OtherLabels { .. })));
        let error = MaskedDataset::read(&root.path().join("test")).unwrap_err();
        assert!(matches!(error, SegmentationError::Data(DataError::NoTrain { .. })), "{error}");
    }

    #[test]
    fn what_cannot_be_trained_on_is_said_in_a_sentence() {
        let root = tempfile::tempdir().unwrap();
        let read = || MaskedDataset::read(root.path()).unwrap_err();
        assert!(matches!(read(), SegmentationError::NotMasked { .. }));
        picture(&root.path().join("images/a.jpg"), 3, 2);
        fs::create_dir(root.path().join("masks")).unwrap();
        let error = read();
        assert!(matches!(&error, SegmentationError::NoMask { .. }) && error.to_string().contains("a.jpg"), "{error}");
        mask(&root.path().join("masks/a.png"), 2, &[0, 1, 1, 0, 0, 0]);
        let error = read().to_string();
        assert!(error.contains("it is 2x3") && error.contains("is 3x2"), "{error}");
        mask(&root.path().join("masks/a.png"), 3, &[0, 0, NO_CLASS, 0, 0, 0]);
        assert!(matches!(read(), SegmentationError::Data(DataError::TooFewClasses { found: 1, .. })));
        mask(&root.path().join("masks/a.png"), 3, &[0, 0, 1, 0, 7, 0]);
        let named = MaskedDataset::read(root.path()).unwrap();
        assert_eq!(named.labels.len(), 8);
        let error = named.train.pictures[0].read_mask(2).unwrap_err().to_string();
        assert!(error.contains("the value 7 at column 1, row 1 is no class; there are 0 to 1"), "{error}");
        for (names, part) in [("a\n\nb\n", "line 2 is empty"), ("a\nb\na\n", "comes twice"), ("a\n", "names 1 classes")]
        {
            fs::write(root.path().join("labels.txt"), names).unwrap();
            let error = read().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
