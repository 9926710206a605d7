//! What was measured of a model, whatever its task.

use super::classes::Classes;
use super::html::{Element, pairs};
use super::masks::Masks;
use crate::data::Part;
use crate::evaluate::Skipped;

/// The figures measured, with what the page shows of the pictures.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Whether the folder measured on is the one that the run was trained on, without a part that it left alone.
    pub trained_on: bool,
    /// The figures.
    pub figures: Figures,
}

/// The figures of a task.
#[derive(Debug, Clone)]
pub enum Figures {
    /// Of classification.
    Classes(Box<Classes>),
    /// Of segmentation.
    Masks(Masks),
}

impl Figures {
    /// The part of the data set that was measured.
    pub fn part(&self) -> Part {
        match self {
            Self::Classes(classes) => classes.evaluation.part,
            Self::Masks(masks) => masks.figures.part,
        }
    }

    /// How many pictures were measured.
    pub fn pictures(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.evaluation.top1.of,
            Self::Masks(masks) => masks.figures.pictures,
        }
    }

    /// Their folder.
    pub fn folder(&self) -> &str {
        match self {
            Self::Classes(classes) => &classes.evaluation.folder,
            Self::Masks(masks) => &masks.figures.folder,
        }
    }

    pub(super) fn cards(&self) -> Vec<Element> {
        match self {
            Self::Classes(classes) => classes.cards(),
            Self::Masks(masks) => masks.cards(),
        }
    }

    pub(super) fn sections(&self) -> Vec<Element> {
        match self {
            Self::Classes(classes) => classes.sections(),
            Self::Masks(masks) => masks.sections(),
        }
    }

    /// Pictures that could not be measured.
    pub(super) fn skipped(&self) -> &[Skipped] {
        match self {
            Self::Classes(classes) => &classes.evaluation.skipped,
            Self::Masks(masks) => &masks.figures.skipped,
        }
    }

    /// What else of the folder the figures do not count, as tables.
    pub(super) fn left_out(&self) -> Vec<Element> {
        let Self::Classes(classes) = self else { return Vec::new() };
        let evaluation = &classes.evaluation;
        let mut tables = Vec::new();
        if !evaluation.unknown_folders.is_empty() {
            let rows = evaluation.unknown_folders.iter().map(|one| (&one.name, format!("{} pictures", one.pictures)));
            tables.push(pairs("Folders that are no class of the model", rows));
        }
        if !evaluation.missing_labels.is_empty() {
            let rows = evaluation.missing_labels.iter().map(|label| (label, "no picture"));
            tables.push(pairs("Classes without a picture", rows));
        }
        tables
    }
}
