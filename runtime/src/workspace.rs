//! The memory of a thread that classifies frame after frame.

use crate::frame::Frame;
use crate::model::Run;
use crate::preprocessing::Preparation;
use crate::{Error, Model, Preprocessing};

/// What one thread keeps between frames, so that nothing is allocated for each: the coefficients of the resize and its
/// rows, the model's input and state, its outputs. [`Classifier::workspace`](crate::Classifier::workspace) makes one.
#[derive(Debug)]
pub struct Workspace {
    preparation: Preparation,
    run: Option<Run>,
    /// Whether the run's input holds a frame.
    prepared: bool,
    /// Whether the next frame has nothing to do with those that the input holds.
    apart: bool,
    row: Vec<f32>,
}

impl Workspace {
    pub(crate) fn new(preprocessing: Preprocessing) -> Self {
        Self { preparation: Preparation::new(preprocessing), run: None, prepared: false, apart: true, row: Vec::new() }
    }

    pub(crate) fn prepare(
        &mut self,
        model: &Model,
        preprocessing: &Preprocessing,
        frame: &Frame<'_>,
    ) -> Result<(), Error> {
        self.prepared = false;
        if frame.is_empty() {
            return Err(Error::EmptyPicture { width: frame.width(), height: frame.height() });
        }
        if self.preparation.preprocessing() != preprocessing {
            self.preparation = Preparation::new(preprocessing.clone());
        }
        let run = match self.run.take().filter(|run| run.is_of(model)) {
            Some(run) => self.run.insert(run),
            None => {
                self.apart = true;
                self.run.insert(Run::new(model)?)
            }
        };
        run.fill(|input| self.preparation.push(frame, input, self.apart))?;
        (self.prepared, self.apart) = (true, false);
        Ok(())
    }

    /// Forgets the frames so far: the next one is of something else. Of a model that sees one picture at a time, nothing is kept.
    pub fn forget(&mut self) {
        self.apart = true;
    }

    pub(crate) fn run(&mut self, model: &Model) -> Result<&[f32], Error> {
        let Some(run) = self.run.as_mut().filter(|run| self.prepared && run.is_of(model)) else {
            return Err(Error::NothingPrepared);
        };
        let result = run.run(&mut self.row);
        if let Err(error) = result {
            // What the graph was in the middle of is of no use to the next frame.
            (self.run, self.prepared) = (None, false);
            return Err(error);
        }
        Ok(&self.row)
    }
}
