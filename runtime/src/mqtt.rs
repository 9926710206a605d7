//! Observations to an MQTT broker.
//!
//! Below the topic `T` of [`Options`] there are three:
//!
//! - `T/availability`, retained: `online`, and `offline` when the program ends. The broker says `offline` in its stead
//!   when the connection breaks (last will).
//! - `T/state`, retained: the [`Observation`] as JSON whenever the label changes. Who subscribes late learns it at once.
//! - `T/observation`: every observation, at most once, and none while the broker is away: nothing old is sent later.
//!
//! The camera never waits for the broker: what the connection cannot take at once is dropped and counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

use rumqttc::{Client, Connection, ConnectionError, Event, LastWill, MqttOptions, Packet, QoS};
use thiserror::Error;

use crate::Observation;

/// The port of MQTT without TLS.
const PORT: u16 = 1883;
/// Messages that may wait for the connection. More would be old by the time they are sent.
const QUEUE: usize = 8;
/// How often the broker is told that this side lives; it says `offline` after one and a half times that.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Between two attempts to reach the broker.
const RETRY: Duration = Duration::from_secs(2);

/// Where to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `HOST` or `HOST:PORT`; the port is 1883 unless said.
    pub broker: String,
    /// The topic above those of this program; no wildcard, no slash at either end.
    pub topic: String,
    /// The name by which the broker knows this client; two clients of one name throw each other out.
    pub client_id: String,
    /// User name and password, if the broker wants them.
    pub credentials: Option<(String, String)>,
}

/// What is wrong with the options, or with this machine.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MqttError {
    /// The broker's address cannot be read.
    #[error("`{0}` is no address of an MQTT broker; expected HOST or HOST:PORT, such as 192.168.1.10:1883")]
    Broker(String),
    /// The topic cannot be published to.
    #[error("`{0}` is no topic to publish under: it has to be without `+` and `#`, and not begin or end with `/`")]
    Topic(String),
    /// The client's name is empty.
    #[error("the MQTT client id is empty; leave it out to have one made")]
    ClientId,
    /// No thread could be started.
    #[error("cannot start the thread that speaks to the MQTT broker")]
    Thread(#[source] io::Error),
}

/// A connection to a broker that is made again whenever it breaks. Dropped, it says `offline` and leaves.
pub struct Publisher {
    client: Client,
    shared: Arc<Shared>,
    topics: Topics,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    connected: AtomicBool,
    stopping: AtomicBool,
    dropped: AtomicU64,
    /// The last state, which a broker that was away has to be told.
    state: Mutex<Option<String>>,
}

#[derive(Clone)]
struct Topics {
    availability: String,
    state: String,
    observation: String,
}

impl Publisher {
    /// Begins to connect to the broker; that it cannot be reached is logged, and tried again without end.
    ///
    /// # Errors
    /// [`MqttError::Broker`], [`MqttError::Topic`] and [`MqttError::ClientId`] if the options cannot be followed.
    pub fn start(options: &Options) -> Result<Self, MqttError> {
        let (host, port) = address(&options.broker).ok_or_else(|| MqttError::Broker(options.broker.clone()))?;
        let topic = &options.topic;
        if topic.is_empty() || topic.contains(['+', '#', '\0']) || topic.starts_with('/') || topic.ends_with('/') {
            return Err(MqttError::Topic(topic.clone()));
        }
        if options.client_id.is_empty() {
            return Err(MqttError::ClientId);
        }
        let below = |name: &str| format!("{topic}/{name}");
        let topics =
            Topics { availability: below("availability"), state: below("state"), observation: below("observation") };
        let mut settings = MqttOptions::new(&options.client_id, host, port);
        settings.set_keep_alive(KEEP_ALIVE);
        settings.set_last_will(LastWill::new(&topics.availability, "offline", QoS::AtLeastOnce, true));
        if let Some((user, password)) = &options.credentials {
            settings.set_credentials(user, password);
        }
        let (client, connection) = Client::new(settings, QUEUE);
        let shared = Arc::new(Shared::default());
        let courier = Courier {
            client: client.clone(),
            shared: Arc::clone(&shared),
            topics: topics.clone(),
            broker: options.broker.clone(),
        };
        let thread = thread::Builder::new()
            .name("mqtt".to_owned())
            .spawn(move || courier.run(connection))
            .map_err(MqttError::Thread)?;
        Ok(Self { client, shared, topics, thread: Some(thread) })
    }

    /// Publishes `observation`, without waiting.
    pub fn publish(&self, observation: &Observation) {
        let Ok(json) = serde_json::to_string(observation) else { return };
        if observation.changed {
            *self.shared.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(json.clone());
        }
        if !self.is_connected() {
            return;
        }
        if observation.changed {
            self.send(&self.topics.state, QoS::AtLeastOnce, true, json.clone());
        }
        self.send(&self.topics.observation, QoS::AtMostOnce, false, json);
    }

    /// Whether the broker has accepted this client and the connection stands.
    pub fn is_connected(&self) -> bool {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// How many messages a connection that stood was too slow for.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    fn send(&self, topic: &str, qos: QoS, retain: bool, payload: String) {
        if self.client.try_publish(topic, qos, retain, payload).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        if self.is_connected() {
            self.send(&self.topics.availability, QoS::AtLeastOnce, true, "offline".to_owned());
        }
        let left = self.client.try_disconnect().is_ok();
        // Unconnected, the thread may sit in an attempt to connect for seconds; nothing of it is worth waiting for.
        if left && self.is_connected() && self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::warn!("the thread that speaks to the MQTT broker failed");
        }
    }
}

/// The thread that moves the messages.
struct Courier {
    client: Client,
    shared: Arc<Shared>,
    topics: Topics,
    broker: String,
}

impl Courier {
    fn run(self, mut connection: Connection) {
        let mut complained = false;
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    log::info!("connected to the MQTT broker {}", self.broker);
                    complained = false;
                    self.shared.connected.store(true, Ordering::Relaxed);
                    self.greet();
                }
                Ok(_) => {}
                Err(_) if self.shared.stopping.load(Ordering::Relaxed) => break,
                Err(ConnectionError::RequestsDone) => break,
                Err(error) => {
                    self.shared.connected.store(false, Ordering::Relaxed);
                    if !std::mem::replace(&mut complained, true) {
                        let every = RETRY.as_secs();
                        log::warn!("MQTT broker {}: {error}; trying again every {every} s", self.broker);
                    }
                    thread::sleep(RETRY);
                }
            }
        }
    }

    /// Tells a broker that was away, or never knew, what is retained.
    fn greet(&self) {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let online = (&self.topics.availability, "online".to_owned());
        for (topic, payload) in [Some(online), state.map(|json| (&self.topics.state, json))].into_iter().flatten() {
            if self.client.try_publish(topic, QoS::AtLeastOnce, true, payload).is_err() {
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Host and port of `HOST`, `HOST:PORT` or `[IPV6]:PORT`.
fn address(broker: &str) -> Option<(&str, u16)> {
    let (host, port) = match broker.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()?),
        _ => (broker, PORT),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let sound = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/@[]".contains(c));
    sound.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_with_or_without_a_port() {
        assert_eq!(address("broker.local"), Some(("broker.local", 1883)));
        assert_eq!(address("10.0.0.2:8883"), Some(("10.0.0.2", 8883)));
        assert_eq!(address("[::1]:1884"), Some(("::1", 1884)));
        assert_eq!(address("::1"), Some(("::1", 1883)));
        for bad in ["", ":1883", "host:", "host:70000", "mqtt://host", "user@host", "a b"] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }

    #[test]
    fn options_that_cannot_be_followed_are_refused() {
        let good = Options {
            broker: "127.0.0.1:1".to_owned(),
            topic: "edge-vit/door".to_owned(),
            client_id: "edge-vit-door".to_owned(),
            credentials: None,
        };
        let start = |change: fn(&mut Options)| {
            let mut options = good.clone();
            change(&mut options);
            Publisher::start(&options).map(drop)
        };
        assert!(start(|_| ()).is_ok());
        assert!(matches!(start(|o| o.broker = "mqtt://x".to_owned()), Err(MqttError::Broker(_))));
        for topic in ["", "a/#", "+/b", "/a", "a/"] {
            let refused = Publisher::start(&Options { topic: topic.to_owned(), ..good.clone() });
            assert!(matches!(refused, Err(MqttError::Topic(_))), "{topic}");
        }
        assert!(matches!(start(|o| o.client_id.clear()), Err(MqttError::ClientId)));
    }
}
