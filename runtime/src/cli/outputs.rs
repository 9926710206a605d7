//! Everybody who is told an answer.

use std::sync::{Arc, Mutex};

use anyhow::Result;
use edge_vit::Observation;
use edge_vit::capture::{Counts, Health};
use edge_vit::frame::Frame;

use super::eye::Eye;
use super::hooks::Hooks;
use super::output::Output;
use super::settings::Settings;

/// A small JPEG of a frame, for those who watch.
pub(crate) type Preview = Arc<[u8]>;

/// All outputs that the settings name.
pub(crate) struct Outputs {
    lines: Output,
    hooks: Hooks,
    #[cfg(feature = "serve")]
    page: Option<Page>,
    #[cfg(feature = "mqtt")]
    mqtt: Option<edge_vit::mqtt::Publisher>,
}

#[cfg(feature = "serve")]
struct Page {
    hub: Arc<edge_vit::serve::Hub>,
    /// Dropped, it stops.
    _server: edge_vit::serve::Server,
}

impl Outputs {
    /// Starts them, for a model with these `labels`; `second` looks at pictures that are sent.
    pub(crate) fn start(settings: &Settings, second: Arc<Mutex<Eye>>, labels: &[String]) -> Result<Self> {
        Ok(Self {
            lines: Output::new(settings.output.json, settings.output.changes_only),
            hooks: Hooks::start(&settings.on_label)?,
            #[cfg(feature = "serve")]
            page: settings.serve.as_ref().map(|options| Page::start(options, second, labels)).transpose()?,
            #[cfg(feature = "mqtt")]
            mqtt: settings.mqtt.as_ref().map(edge_vit::mqtt::Publisher::start).transpose()?,
        })
    }

    /// A small picture of `frame`, if anybody watches.
    pub(crate) fn preview(&self, frame: &Frame<'_>) -> Option<Preview> {
        #[cfg(feature = "serve")]
        if self.page.as_ref().is_some_and(|page| page.hub.wants_preview()) {
            return Some(edge_vit::serve::preview(frame).into());
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
    pub(crate) fn health(&self, health: &Health, counts: Counts) {
        #[cfg(feature = "serve")]
        if let Some(page) = &self.page {
            page.hub.set_health(health.clone());
            page.hub.set_counts(counts);
        }
    }
}

#[cfg(feature = "serve")]
impl Page {
    fn start(options: &edge_vit::serve::Options, second: Arc<Mutex<Eye>>, labels: &[String]) -> Result<Self> {
        use std::sync::PoisonError;
        use std::time::Duration;

        use edge_vit::capture::Payload;

        use super::eye::Blind;

        let hub = Arc::new(edge_vit::serve::Hub::new(labels.iter().map(String::as_str)));
        hub.set_classify(Arc::new(move |bytes: &[u8]| {
            let mut eye = second.lock().unwrap_or_else(PoisonError::into_inner);
            eye.forget();
            let looked = eye.look(&Payload::Encoded(bytes.to_owned()), Duration::ZERO, |_| None::<()>);
            match looked {
                Ok((answer, _)) => Ok(answer.to_json()),
                Err(Blind::Picture(error) | Blind::Model(error)) => Err(format!("{:#}", anyhow::Error::from(error))),
            }
        }));
        let server = edge_vit::serve::Server::start(options.clone(), Arc::clone(&hub))?;
        log::info!("the page is at http://{}/", server.address());
        Ok(Self { hub, _server: server })
    }
}
