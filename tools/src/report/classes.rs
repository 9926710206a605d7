//! What is shown of a model that classifies.

use edge_vit::Classifier;

use super::html::{Element, card, name, section, sentence};
use super::looks::{Look, looks};
use super::run::Run;
use super::words::{file_name, grouped, percent};
use super::{ReportError, believed, confusion, picture};
use crate::data::Part;
use crate::evaluate::{Evaluation, Mistake, Samples, Share, evaluate};

/// The figures of a classifier, with what the page shows of the pictures.
#[derive(Debug, Clone)]
pub struct Classes {
    /// The figures.
    pub evaluation: Evaluation,
    /// For each of [`Evaluation::mistakes`], the picture as a `data:` address of a small JPEG, where it can be made.
    pub thumbnails: Vec<Option<String>>,
    /// A few pictures with what the model's last attention weighs of them, or why there are none.
    pub looks: Result<Vec<Look>, String>,
}

impl Classes {
    /// Measures `classifier` on `samples`.
    pub(super) fn measure(
        run: &Run,
        classifier: &Classifier,
        samples: &Samples,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self, ReportError> {
        let all = samples.pictures.len();
        let evaluation = evaluate(classifier, samples, &|done| progress(done, all))?;
        let frames = classifier.bundle().preprocessing.frames;
        let thumbnail = |mistake: &Mistake| picture::thumbnail(&samples.pictures[mistake.sample].path, frames);
        let thumbnails = evaluation.mistakes.iter().map(thumbnail).collect();
        let looks = looks(run, classifier, samples);
        Ok(Self { evaluation, thumbnails, looks })
    }

    pub(super) fn cards(&self) -> Vec<Element> {
        let evaluation = &self.evaluation;
        let Share { correct, of, share, low, high } = evaluation.top1;
        let what = match evaluation.part {
            Part::Test => "Test top-1",
            Part::Val => "Validation top-1",
            Part::Train | Part::Whole => "Top-1",
        };
        let interval = format!("{correct} of {of}; 95 % interval {} to {}", percent(low), percent(high));
        let labelled = evaluation.classes.iter().filter(|class| class.count > 0).count();
        let mut cards = vec![
            card("card main", what, percent(share), interval),
            card("card", "Pictures measured", grouped(of), format!("in {labelled} classes")),
        ];
        if let Some(top5) = evaluation.top5 {
            cards.push(card("card", "Top-5", percent(top5.share), format!("{} of {of}", top5.correct)));
        }
        let entropy = format!("{:.3}", evaluation.mean_cross_entropy);
        cards.push(card("card", "Cross-entropy", entropy, "nats a picture"));
        cards
    }

    pub(super) fn sections(&self) -> Vec<Element> {
        let evaluation = &self.evaluation;
        let confusion = section("Confusion matrix").child(confusion::of_pictures(evaluation));
        let classes = section("Class by class")
            .child(confusion::class_table(evaluation))
            .children(confusion::pairs_table(evaluation));
        let mut sections = vec![confusion, classes];
        sections.extend(self.believed());
        sections.extend([self.mistakes(), self.looks()]);
        sections
    }

    fn mistakes(&self) -> Element {
        let evaluation = &self.evaluation;
        let section = section("The worst mistakes");
        if evaluation.mistakes.is_empty() {
            return section.child(sentence("No picture was called wrong."));
        }
        let wrong = evaluation.top1.of - evaluation.top1.correct;
        let shown = evaluation.mistakes.len();
        let text = if shown == wrong {
            format!("All {shown} pictures called wrong, the one of which the model was surest first.")
        } else {
            format!("Of {} pictures called wrong, the {shown} of which the model was surest.", grouped(wrong))
        };
        let item = |(mistake, thumbnail): (&Mistake, &Option<String>)| {
            let picture = match thumbnail {
                Some(address) => {
                    let alt = format!("{}, called {}", mistake.truth, mistake.prediction);
                    Element::new("img").attr("src", address).attr("alt", alt)
                }
                None => Element::new("div").class("none").text("cannot be shown"),
            };
            let called = Element::new("p")
                .child(Element::new("span").class("wrong").child(name(&mistake.prediction)))
                .text(format!(" at {}", percent(mistake.confidence)));
            let truth = Element::new("p").class("file").text("is ").child(name(&mistake.truth));
            let truth = truth.text(format!(", held at {}", percent(mistake.truth_confidence)));
            let file = Element::new("p").class("file").child(name(file_name(&mistake.path)));
            Element::new("li").child(picture).child(called).child(truth).child(file)
        };
        let items = evaluation.mistakes.iter().zip(&self.thumbnails).map(item);
        section.child(sentence(text)).child(Element::new("ul").class("gallery").children(items))
    }

    /// How far the scores can be believed, where the model carries a temperature and a threshold.
    fn believed(&self) -> Option<Element> {
        let calibration = self.evaluation.calibration.as_ref()?;
        let text = format!(
            "Temperature {:.2} and threshold {:.2} were fitted on validation pictures, so that at most {} of them are called \
             unknown. Here {} are; of the others {} are right. The expected calibration error is {} at that temperature and {} \
             without it.",
            calibration.temperature,
            calibration.threshold,
            percent(f64::from(calibration.false_rejection_rate)),
            percent(calibration.rejected.share),
            percent(calibration.accepted_top1.share),
            percent(calibration.ece_calibrated),
            percent(calibration.ece_plain),
        );
        let charts = Element::new("div").class("two").children(believed::charts(calibration));
        Some(section("How far scores can be believed").child(sentence(text)).child(charts))
    }

    /// What the last attention weighs of a few pictures.
    fn looks(&self) -> Element {
        let section = section("Where the model looks");
        let looks = match &self.looks {
            Ok(looks) => looks,
            Err(reason) => return section.child(sentence(format!("No map: {reason}."))),
        };
        let text = "Each picture as the model sees it, and beside it each patch as bright as the last block's attention weighs it \
                    for the answer (mean of the heads, the largest as it was). It tells what is read, not why.";
        let item = |look: &Look| {
            let image = |address: &str, alt: String| Element::new("img").attr("src", address).attr("alt", alt);
            let pair = Element::new("div")
                .class("pair")
                .child(image(&look.seen, look.truth.clone()))
                .child(image(&look.weighed, format!("{}, what is weighed", look.truth)));
            let wrong = look.prediction != look.truth;
            let called =
                Element::new("span").class(if wrong { "wrong" } else { "right" }).child(name(&look.prediction));
            let called = Element::new("p").child(called).text(format!(" at {}", percent(f64::from(look.score))));
            let item = Element::new("li").child(pair).child(called);
            if wrong { item.child(Element::new("p").class("file").text("is ").child(name(&look.truth))) } else { item }
        };
        let list = Element::new("ul").class("gallery wide").children(looks.iter().map(item));
        section.child(sentence(text)).child(list)
    }
}
