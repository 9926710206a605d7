//! Connections: how many there are, how long they may take, and the end of those that do not read.

use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWrite as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;

use super::worker::Worker;
use super::{Hub, Options, routes};

/// The longest head of a request, and how much of an answer is gathered for a connection before it is asked for more,
/// in bytes.
const BUFFER: usize = 16 << 10;
/// What the system keeps for a client that reads slowly, in bytes: about two pictures. More would only make what a slow
/// client sees older.
const SEND_BUFFER: u32 = 64 << 10;
/// How many clients beyond the limit are answered at a time; more are closed without a word.
const FAREWELLS: usize = 16;
/// How long such a client may take to go.
const FAREWELL: Duration = Duration::from_millis(500);
/// What a client beyond the limit is told.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nConnection: close\r\n\
    Content-Type: application/json\r\nContent-Length: 51\r\n\r\n{\"error\":\"too many connections: try again later\"}\r\n";

/// Listens on `address`; called inside the runtime that will accept.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // The port is free again at once after a restart; it cannot be shared on Unix.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// Accepts connections for ever.
pub(super) async fn run(listener: TcpListener, options: Options, hub: Arc<Hub>, worker: Worker) {
    let (header_timeout, write_timeout) = (options.header_timeout, options.write_timeout);
    let places = Arc::new(Semaphore::new(options.connections));
    let farewells = Arc::new(Semaphore::new(FAREWELLS));
    let router = routes::router(options, Arc::clone(&hub), worker);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    let (router, hub) = (router.clone(), Arc::clone(&hub));
                    tokio::spawn(serve(stream, router, hub, place, header_timeout, write_timeout));
                }
                Err(_) => {
                    hub.traffic().turned_away.fetch_add(1, Relaxed);
                    if let Ok(farewell) = Arc::clone(&farewells).try_acquire_owned() {
                        tokio::spawn(turn_away(stream, farewell));
                    }
                }
            },
            Err(error) => {
                // Usually no file descriptor is left: those in use come back by the timeouts.
                log::warn!("no connection can be accepted: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Serves one connection to its end.
async fn serve(
    stream: TcpStream,
    router: Router,
    hub: Arc<Hub>,
    _place: OwnedSemaphorePermit,
    header_timeout: Duration,
    write_timeout: Duration,
) {
    let _open = hub.traffic().connection();
    // Without it the answers would only be later.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(write_timeout));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        if cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut) {
            hub.traffic().slow.fetch_add(1, Relaxed);
            log::info!("a client took nothing for {} s and was dropped", write_timeout.as_secs_f32());
        } else {
            log::debug!("a connection ended: {error}");
        }
    }
}

/// Answers a client that there is no place for, and reads what it has sent: a connection that is closed on unread bytes
/// is reset, and its client would never see the answer.
async fn turn_away(mut stream: TcpStream, _farewell: OwnedSemaphorePermit) {
    let farewell = async {
        stream.writable().await?;
        stream.try_write(FULL)?;
        poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx)).await?;
        let mut unread = [0; 1024];
        loop {
            stream.readable().await?;
            match stream.try_read(&mut unread) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => (),
            }
        }
    };
    // It has been told, or it has gone, or it stays too long.
    let _ = timeout(FAREWELL, farewell).await;
}

#[cfg(test)]
mod tests {
    use super::FULL;

    #[test]
    fn the_answer_to_a_client_too_many_is_as_long_as_it_says() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{text}");
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{body}");
    }
}
