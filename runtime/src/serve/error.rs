//! Why the server does not start.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// An error at the server's start; the message says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address can be reached from other machines, and nothing would keep them out.
    #[error(
        "{address} can be reached from other machines: set a token that they must send, or serve on 127.0.0.1 and reach \
         it through `ssh -L`"
    )]
    NoToken {
        /// The address.
        address: SocketAddr,
    },
    /// The token is too easy to guess, or no header can carry it.
    #[error(
        "the token must be of at least {shortest} letters, digits or signs of ASCII without spaces: make one with `openssl rand -hex 16`"
    )]
    Token {
        /// The fewest characters that are taken.
        shortest: usize,
    },
    /// The address cannot be listened on.
    #[error("cannot serve on {address}: {}", remedy(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no thread or no event queue.
    #[error("cannot start the server")]
    System(#[source] io::Error),
}

/// What the system's answer means for the person who chose the address.
fn remedy(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program has this port; stop it, or choose another port".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; 0.0.0.0 is every one it has".to_owned(),
        io::ErrorKind::PermissionDenied => "ports below 1024 need privileges; choose a higher one".to_owned(),
        _ => error.to_string(),
    }
}
