//! Answers that do not end: events and pictures, each made when the client has taken the one before.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::Frame;
use tokio::sync::watch;
use tokio::time::timeout;

use super::hub::{Board, Preview};

/// Waits for what comes next.
pub(super) trait Feed: Sized + Send + 'static {
    /// The next bytes and the feed that goes on behind them; `None` at the end.
    fn next(self) -> impl Future<Output = Option<(Bytes, Self)>> + Send;

    /// The feed as the body of an answer.
    fn into_body(self) -> Body {
        Body::new(Feeding(Box::pin(self.next())))
    }
}

type Step<F> = Pin<Box<dyn Future<Output = Option<(Bytes, F)>> + Send>>;

/// A body that asks its feed only when the connection has room: what came meanwhile is skipped, not kept.
struct Feeding<F>(Step<F>);

impl<F: Feed> HttpBody for Feeding<F> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some((bytes, feed)) = ready!(self.0.as_mut().poll(cx)) else { return Poll::Ready(None) };
        self.0 = Box::pin(feed.next());
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

/// Server-sent events: the health and the newest answer at once, then each change, and the health again as a
/// heartbeat.
pub(super) struct Events {
    board: watch::Receiver<Board>,
    heartbeat: Duration,
    /// The numbers of the answer and the health that were sent last; `None` before anything was.
    sent: Option<[u64; 2]>,
}

impl Events {
    pub(super) fn new(board: watch::Receiver<Board>, heartbeat: Duration) -> Self {
        Self { board, heartbeat, sent: None }
    }
}

impl Feed for Events {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        let news = match self.sent {
            Some(sent) => match timeout(self.heartbeat, self.board.changed()).await {
                Ok(changed) => {
                    changed.ok()?;
                    Some(sent)
                }
                Err(_) => None,
            },
            None => Some([0, u64::MAX]),
        };
        let bytes =
            {
                let board = self.board.borrow_and_update();
                self.sent = Some([board.answers, board.healths]);
                match (news, &board.answer) {
                    (None, _) => board.health_event(),
                    (Some([answers, healths]), Some(answer)) if board.answers != answers => {
                        if board.healths == healths { answer.clone() } else { joined(&board.health_event(), answer) }
                    }
                    (Some(_), _) => board.health_event(),
                }
            };
        Some((bytes, self))
    }
}

fn joined(first: &Bytes, second: &Bytes) -> Bytes {
    [&first[..], &second[..]].concat().into()
}

/// The live picture, part after part.
pub(super) struct Pictures {
    previews: watch::Receiver<Option<Preview>>,
    begun: bool,
}

impl Pictures {
    pub(super) fn new(previews: watch::Receiver<Option<Preview>>) -> Self {
        Self { previews, begun: false }
    }
}

impl Feed for Pictures {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if !self.begun {
            self.begun = true;
            return Some((Bytes::from_static(Preview::BOUNDARY), self));
        }
        loop {
            self.previews.changed().await.ok()?;
            let part = self.previews.borrow_and_update().as_ref().map(Preview::part);
            if let Some(part) = part {
                return Some((part, self));
            }
        }
    }
}
