//! The live page and the HTTP interface: `/`, `/stream`, `/frame.jpg`, `/events`, `/classify`, `/healthz`, `/metrics`.
//!
//! The loop that classifies hands what it found to a [`Hub`] and goes on; it never waits for a client. A [`Server`]
//! runs on one thread of its own and gives each client the newest that the hub has, so a slow client skips what it had
//! no time for and one that does not read at all is dropped. Pictures that are posted are classified on a second thread.
//!
//! ```no_run
//! # fn main() -> Result<(), edge_vit::serve::ServeError> {
//! use std::sync::Arc;
//! use edge_vit::serve::{Hub, Options, Server};
//!
//! let hub = Arc::new(Hub::new(["cat", "dog"]));
//! let server = Server::start(Options::default(), Arc::clone(&hub))?;
//! println!("open http://{}/", server.address());
//! # Ok(())
//! # }
//! ```
//!
//! | route | |
//! |---|---|
//! | `GET /` | the page: one file without any outside resource |
//! | `GET /stream` | the live picture as `multipart/x-mixed-replace` JPEG |
//! | `GET /frame.jpg` | the newest picture |
//! | `GET /events` | server-sent events: `observation` (an [`Observation`](crate::Observation)) and `health` |
//! | `POST /classify` | the picture in the body, classified: JSON |
//! | `GET /healthz` | 200 while pictures are classified, 503 with the reason otherwise: JSON |
//! | `GET /metrics` | Prometheus text |
//!
//! An error is answered as `{"error": "..."}`. On a loopback address the `Host` header must name the loopback, so that
//! no web page can reach the server under a name of its own; any other address needs a token
//! (`Authorization: Bearer TOKEN` or `?token=TOKEN`), and a cross-origin `POST` is refused on both. `/healthz` needs no
//! token.

mod error;
mod feed;
mod guard;
mod hub;
mod listen;
mod metrics;
mod options;
mod page;
mod preview;
mod routes;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use error::ServeError;
pub use hub::{Classify, Hub};
pub use options::Options;
pub use preview::preview;

/// A running server. Dropping it closes every connection and ends its threads; a picture that is being classified is
/// finished first.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on the address of `options` and serves what `hub` gets.
    ///
    /// # Errors
    /// [`ServeError::NoToken`] and [`ServeError::Token`] if the address needs a token and there is none, or none that
    /// can be sent in a header; [`ServeError::Listen`] if the address cannot be had; [`ServeError::System`] if there is
    /// no thread to be had.
    pub fn start(options: Options, hub: Arc<Hub>) -> Result<Self, ServeError> {
        options.check()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServeError::System)?;
        let listener = {
            let _inside = runtime.enter();
            listen::bind(options.address).map_err(|source| ServeError::Listen { address: options.address, source })?
        };
        let address = listener.local_addr().map_err(ServeError::System)?;
        let worker = worker::Worker::start(Arc::clone(&hub), options.classify_queue).map_err(ServeError::System)?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("serve".to_owned())
            .spawn(move || {
                runtime.spawn(listen::run(listener, options, hub, worker));
                // Ends when the server is dropped: the sender is gone then, and nothing is ever sent.
                let _ = runtime.block_on(stopped);
            })
            .map_err(ServeError::System)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where the server listens; tells the port if port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the server's thread had panicked");
        }
    }
}
