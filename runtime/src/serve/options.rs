//! Where the server listens, whom it answers, and how long it waits for anybody.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::ServeError;

/// The fewest characters of a token.
const SHORTEST_TOKEN: usize = 8;

/// The server's settings. The limits of the default suit a small board.
#[derive(Clone)]
pub struct Options {
    /// Where to listen. Port 0 takes any that is free.
    pub address: SocketAddr,
    /// What clients must send; any address but a loopback one needs it.
    pub token: Option<String>,
    /// Connections at a time; a client beyond them is answered 503. A sixteenth of them is kept free of clients that
    /// watch, so that `/healthz` answers when all others are taken.
    pub connections: usize,
    /// The longest body of `POST /classify`, in bytes. All bodies that are held at a time take at most twice as much.
    pub body_limit: usize,
    /// How many posted pictures may wait for the one that is being classified.
    pub classify_queue: usize,
    /// How long a request's head may take, and how long a connection may stay open between two requests.
    pub header_timeout: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub write_timeout: Duration,
    /// After how long without anything else `/events` repeats the health.
    pub heartbeat: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, 8080).into(),
            token: None,
            connections: 256,
            body_limit: 16 << 20,
            classify_queue: 8,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(8),
            heartbeat: Duration::from_secs(5),
        }
    }
}

/// The token is secret: it stays out of logs.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("address", &self.address)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("connections", &self.connections)
            .field("body_limit", &self.body_limit)
            .field("classify_queue", &self.classify_queue)
            .field("header_timeout", &self.header_timeout)
            .field("body_timeout", &self.body_timeout)
            .field("write_timeout", &self.write_timeout)
            .field("heartbeat", &self.heartbeat)
            .finish()
    }
}

impl Options {
    /// Refuses an address that anybody could use.
    pub(super) fn check(&self) -> Result<(), ServeError> {
        match &self.token {
            Some(token) if token.len() < SHORTEST_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(ServeError::Token { shortest: SHORTEST_TOKEN })
            }
            None if !self.is_loopback() => Err(ServeError::NoToken { address: self.address }),
            _ => Ok(()),
        }
    }

    /// Whether only this machine can reach the address.
    pub(super) fn is_loopback(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(address: &str, token: Option<&str>) -> Options {
        Options { address: address.parse().unwrap(), token: token.map(str::to_owned), ..Options::default() }
    }

    #[test]
    fn loopback_needs_no_token_and_every_other_address_does() {
        for address in ["127.0.0.1:80", "127.8.8.8:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert!(options(address, None).check().is_ok(), "{address}");
        }
        for address in ["0.0.0.0:80", "192.168.1.4:80", "[::]:80", "[fe80::1]:80"] {
            let error = options(address, None).check().unwrap_err();
            assert!(matches!(error, ServeError::NoToken { .. }), "{error}");
            assert!(options(address, Some("correct-horse")).check().is_ok(), "{address}");
        }
    }

    #[test]
    fn a_token_that_is_short_or_cannot_be_sent_is_refused_everywhere() {
        for token in ["", "short", "with a space", "zeile\numbruch", "schlüsselwort"] {
            let error = options("127.0.0.1:80", Some(token)).check().unwrap_err();
            assert!(error.to_string().contains("openssl rand"), "{error}");
        }
    }

    #[test]
    fn a_log_line_does_not_tell_the_token() {
        let text = format!("{:?}", options("127.0.0.1:80", Some("correct-horse")));
        assert!(!text.contains("horse"), "{text}");
    }
}
