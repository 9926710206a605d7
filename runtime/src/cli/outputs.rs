//! Everybody who is told an answer.

use std::sync::Arc;
#[cfg(feature = "serve")]
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

#[cfg(feature = "serve")]
use super::eye::Eye;
use super::hooks::Hooks;
use super::output::Output;
use super::settings::Settings;
use crate::capture::Capture;
use crate::frame::Frame;
use crate::{Classifier, Observation};

/// A small JPEG of a frame, for those who watch.
pub(crate) type Preview = Arc<[u8]>;

/// All outputs that the settings name.
pub(crate) struct Outputs {
    lines: Output,
    hooks: Hooks,
    #[cfg(feature = "serve")]
    page: Option<Page>,
    #[cfg(feature = "mqtt")]
    mqtt: Option<crate::mqtt::Publisher>,
}

#[cfg(feature = "serve")]
struct Page {
    hub: Arc<crate::serve::Hub>,
    /// Looks at pictures that are sent, of which none changes what is decided of the source.
    eye: Arc<Mutex<Eye>>,
    /// Dropped, it stops.
    _server: crate::serve::Server,
}

#[cfg_attr(not(feature = "serve"), expect(unused_variables, reason = "only the page needs them"))]
impl Outputs {
    /// Starts them; pictures that are sent are classified with `classifier`.
    pub(crate) fn start(settings: &Settings, classifier: &Classifier) -> Result<Self> {
        Ok(Self {
            lines: Output::new(settings.output.json, settings.output.changes_only),
            hooks: Hooks::start(&settings.on_label)?,
            #[cfg(feature = "serve")]
            page: settings.serve.as_ref().map(|options| Page::start(options, settings, classifier)).transpose()?,
            #[cfg(feature = "mqtt")]
            mqtt: settings.mqtt.as_ref().map(crate::mqtt::Publisher::start).transpose()?,
        })
    }

    /// A small picture of `frame`, if anybody watches.
    pub(crate) fn preview(&self, frame: &Frame<'_>) -> Option<Preview> {
        #[cfg(feature = "serve")]
        if self.page.as_ref().is_some_and(|page| page.hub.wants_preview()) {
            return Some(crate::serve::preview(frame).into());
        }
        None
    }

    /// Tells everybody. Only stdout may be waited for.
    pub(crate) fn observe(&mut self, observation: &Observation, preview: Option<Preview>) -> Result<()> {
        #[cfg(feature = "serve")]
        if let Some(page) = &self.page {
            page.hub.publish(observation, preview);
        }
        #[cfg(feature = "mqtt")]
        if let Some(mqtt) = &self.mqtt {
            mqtt.publish(observation);
        }
        self.hooks.observe(observation);
        Ok(self.lines.observe(observation)?)
    }

    /// Tells those who ask how the source is.
    pub(crate) fn health(&self, capture: &Capture) {
        #[cfg(feature = "serve")]
        if let Some(page) = &self.page {
            page.hub.set_health(capture.health());
            page.hub.set_counts(capture.counts());
        }
    }

    /// Classifies pictures that are sent with `classifier` from now on.
    pub(crate) fn take_over(&self, settings: &Settings, classifier: &Classifier) -> Result<()> {
        #[cfg(feature = "serve")]
        if let Some(page) = &self.page {
            *page.eye.lock().unwrap_or_else(PoisonError::into_inner) = settings.eye(classifier)?;
        }
        Ok(())
    }
}

#[cfg(feature = "serve")]
impl Page {
    fn start(options: &crate::serve::Options, settings: &Settings, classifier: &Classifier) -> Result<Self> {
        use std::time::Duration;

        use super::eye::{Blind, Picture};

        let hub = Arc::new(crate::serve::Hub::new(classifier.bundle().labels.iter().map(String::as_str)));
        let eye = Arc::new(Mutex::new(settings.eye(classifier)?));
        let looking = Arc::clone(&eye);
        hub.set_classify(Arc::new(move |bytes: &[u8]| {
            let mut eye = looking.lock().unwrap_or_else(PoisonError::into_inner);
            eye.forget();
            let looked = eye.look(Picture::Encoded(bytes), Duration::ZERO, |_| None::<()>);
            match looked {
                Ok((answer, _)) => Ok(answer.to_json()),
                Err(Blind::Picture(error) | Blind::Model(error)) => Err(format!("{:#}", anyhow::Error::from(error))),
            }
        }));
        let server = crate::serve::Server::start(options.clone(), Arc::clone(&hub))?;
        log::info!("the page is at http://{}/", server.address());
        Ok(Self { hub, eye, _server: server })
    }
}
