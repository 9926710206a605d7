//! A few pictures with what the model's last attention weighs of them.

use edge_vit::{Classifier, Preprocessing};
use edge_vit_models::adapter::File;
use edge_vit_models::backbone;

use super::attention::LastAttention;
use super::picture::weighed;
use super::run::Run;
use crate::data::open_picture;
use crate::evaluate::Samples;

/// How many pictures are shown at most.
const SHOWN: usize = 6;

/// One picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// What it is.
    pub truth: String,
    /// What the model calls it.
    pub prediction: String,
    /// The score of that, 0 to 1.
    pub score: f32,
    /// What the model sees, as a `data:` address.
    pub seen: String,
    /// The same, each patch as bright as it weighs.
    pub weighed: String,
}

/// Pictures spread over `samples` with their maps, or why there are none, in words that follow "No map:".
pub(super) fn looks(run: &Run, classifier: &Classifier, samples: &Samples) -> Result<Vec<Look>, String> {
    let adapters = run.adapters.as_ref().ok_or("the run kept no adapters")?;
    let backbone =
        backbone::load(run.backbone()?, Some(adapters.meta.image_size)).map_err(|error| error.to_string())?;
    let file = File::read(&run.adapters_path()).map_err(|error| error.to_string())?;
    let graph = file.apply(&backbone.graph, &backbone.sha256).map_err(|error| error.to_string())?;
    let attention = LastAttention::of(&graph).map_err(|error| error.to_string())?;
    let mut attention = attention.ok_or("this architecture has no attention over all patches of a picture")?;
    let preprocessing: Preprocessing =
        serde_json::from_value(adapters.meta.preprocessing.clone()).map_err(|error| error.to_string())?;

    let labels = &classifier.bundle().labels;
    let stride = samples.pictures.len().div_ceil(SHOWN).max(1);
    let mut looks = Vec::new();
    for sample in samples.pictures.iter().step_by(stride) {
        let Ok(picture) = open_picture(&sample.path) else { continue };
        let map = attention.map(&preprocessing.apply(&picture)).map_err(|error| error.to_string())?;
        let predictions = classifier.classify(&picture).map_err(|error| error.to_string())?;
        let (Some(best), Some([seen, weighed])) = (predictions.first(), weighed(&picture, &preprocessing, &map)) else {
            continue;
        };
        let truth = labels.get(sample.class).cloned().unwrap_or_default();
        looks.push(Look { truth, prediction: best.label.clone(), score: best.score, seen, weighed });
    }
    if looks.is_empty() { Err("no picture can be read".to_owned()) } else { Ok(looks) }
}
