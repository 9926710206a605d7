//! What each route answers.

use std::fmt::Display;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE, EXPECT, HeaderValue, RETRY_AFTER};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::feed::{Events, Feed, Pictures};
use super::guard::{Guard, guard};
use super::hub::Preview;
use super::page::Page;
use super::worker::{Verdict, Worker};
use super::{Hub, Options};

/// How long `/frame.jpg` waits for a picture to be made.
const PICTURE_WAIT: Duration = Duration::from_secs(2);
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What all requests share.
struct App {
    options: Options,
    hub: Arc<Hub>,
    worker: Worker,
    page: Page,
    /// Bytes of posted pictures that may be held at a time.
    room: Arc<Semaphore>,
}

type Shared = State<Arc<App>>;

/// All routes, with the checks before them.
pub(super) fn router(options: Options, hub: Arc<Hub>, worker: Worker) -> Router {
    let page = Page::new();
    let checks = Arc::new(Guard::new(&options, page.policy.clone()));
    let room = Arc::new(Semaphore::new((2 * options.body_limit).min(Semaphore::MAX_PERMITS)));
    Router::new()
        .route("/", get(show_page))
        .route("/icon.svg", get(icon))
        .route("/stream", get(stream))
        .route("/frame.jpg", get(frame))
        .route("/events", get(events))
        .route("/classify", post(classify))
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(wrong_method)
        .fallback(no_such_route)
        .layer(from_fn_with_state(checks, guard))
        .with_state(Arc::new(App { options, hub, worker, page, room }))
}

/// An error as every route answers it: one sentence.
pub(super) fn refuse(status: StatusCode, sentence: impl Display) -> Response {
    let body = serde_json::json!({ "error": sentence.to_string() }).to_string();
    (status, [(CONTENT_TYPE, JSON)], body).into_response()
}

/// The answer to a client for which there is no room now.
fn busy(sentence: &str) -> Response {
    let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, sentence);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

async fn show_page(State(app): Shared) -> Response {
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], app.page.html.clone()).into_response()
}

async fn icon() -> Response {
    ([(CONTENT_TYPE, "image/svg+xml")], Page::ICON).into_response()
}

async fn no_such_route(uri: Uri) -> Response {
    refuse(StatusCode::NOT_FOUND, format_args!("there is no {}; the page is at /", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    refuse(StatusCode::METHOD_NOT_ALLOWED, format_args!("{} does not take {method}", uri.path()))
}

async fn health(State(app): Shared) -> Response {
    let (healthy, report) = app.hub.health();
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(CONTENT_TYPE, JSON)], report).into_response()
}

async fn metrics(State(app): Shared) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.hub.metrics()).into_response()
}

impl App {
    /// Whether one more client may watch.
    fn has_place(&self) -> bool {
        let most = self.options.connections - self.options.connections.div_ceil(16);
        self.hub.watchers().iter().sum::<usize>() < most.max(1)
    }
}

const WATCHED: &str = "as many clients watch as this device serves; close another page";

async fn events(State(app): Shared) -> Response {
    if !app.has_place() {
        return busy(WATCHED);
    }
    let feed = Events::new(app.hub.board(), app.options.heartbeat);
    ([(CONTENT_TYPE, "text/event-stream")], feed.into_body()).into_response()
}

async fn stream(State(app): Shared) -> Response {
    if !app.has_place() {
        return busy(WATCHED);
    }
    let feed = Pictures::new(app.hub.previews());
    ([(CONTENT_TYPE, "multipart/x-mixed-replace; boundary=frame")], feed.into_body()).into_response()
}

async fn frame(State(app): Shared) -> Response {
    // The receiver says that somebody watches: the next picture is made for it.
    let mut previews = app.hub.previews();
    let newest = |preview: &Option<Preview>| preview.as_ref().filter(|preview| preview.is_fresh()).map(Preview::jpeg);
    let fresh = newest(&previews.borrow());
    let jpeg = match fresh {
        Some(jpeg) => Some(jpeg),
        None => match timeout(PICTURE_WAIT, previews.changed()).await {
            Ok(Ok(())) => newest(&previews.borrow()),
            _ => None,
        },
    };
    match jpeg {
        Some(jpeg) => ([(CONTENT_TYPE, "image/jpeg")], jpeg).into_response(),
        None => busy("no picture has come: /healthz says why"),
    }
}

async fn classify(State(app): Shared, request: Request) -> Response {
    let limit = app.options.body_limit;
    let patience = app.options.body_timeout;
    let waits = request.headers().contains_key(EXPECT);
    let mut body = request.into_body();
    let declared = body.size_hint().exact();
    if declared.is_some_and(|declared| declared > limit as u64) {
        return too_large(&mut body, limit, patience, waits).await;
    }
    // A body of unknown length may become as long as any.
    let needed = declared.map_or(limit, |declared| declared as usize);
    let Ok(room) = Arc::clone(&app.room).try_acquire_many_owned(u32::try_from(needed).unwrap_or(u32::MAX)) else {
        return busy("too many pictures are being sent; try again");
    };
    let picture = match timeout(patience, read(&mut body, limit)).await {
        Ok(Read::Whole(picture)) => picture,
        Ok(Read::TooLong) => return too_large(&mut body, limit, patience, waits).await,
        Ok(Read::Broken) => return refuse(StatusCode::BAD_REQUEST, "the body was not sent whole"),
        Err(_) => {
            let sentence = format!("the body was not sent within {} s", patience.as_secs_f32());
            return closing(refuse(StatusCode::REQUEST_TIMEOUT, sentence));
        }
    };
    let traffic = app.hub.traffic();
    match app.worker.classify(picture, room).await {
        Verdict::Answer(answer) => {
            traffic.classified.fetch_add(1, Relaxed);
            ([(CONTENT_TYPE, JSON)], answer.to_string()).into_response()
        }
        Verdict::Refused(reason) => {
            traffic.refused.fetch_add(1, Relaxed);
            refuse(StatusCode::UNPROCESSABLE_ENTITY, reason)
        }
        Verdict::Busy => {
            traffic.busy.fetch_add(1, Relaxed);
            busy("the pictures that wait to be classified are as many as can; try again")
        }
        Verdict::Nobody => refuse(StatusCode::NOT_IMPLEMENTED, "this server classifies no pictures but its source's"),
        Verdict::Failed => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the picture could not be classified"),
    }
}

/// What came of reading a body.
enum Read {
    Whole(Vec<u8>),
    TooLong,
    Broken,
}

/// Reads a body of at most `limit` bytes.
async fn read(body: &mut Body, limit: usize) -> Read {
    let mut whole = Vec::new();
    loop {
        match next(body).await {
            Some(Some(data)) if data.len() > limit - whole.len() => return Read::TooLong,
            Some(Some(data)) => whole.extend_from_slice(&data),
            Some(None) => return Read::Broken,
            None => return Read::Whole(whole),
        }
    }
}

/// The next bytes of a body; `Some(None)` if it broke off.
async fn next(body: &mut Body) -> Option<Option<Bytes>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    // Trailers are no bytes of the body.
    Some(frame.ok().map(|frame| frame.into_data().unwrap_or_default()))
}

/// The answer to a body beyond the limit. A client that sends everything before it reads would never see the answer if
/// the connection closed on it, so as much again is read and thrown away; one that waits to be asked (`Expect`) is not
/// asked.
async fn too_large(body: &mut Body, limit: usize, patience: Duration, waits: bool) -> Response {
    if !waits {
        let mut left = limit;
        let _ = timeout(patience, async {
            while let Some(Some(data)) = next(body).await {
                match left.checked_sub(data.len()) {
                    Some(rest) => left = rest,
                    None => break,
                }
            }
        })
        .await;
    }
    closing(refuse(StatusCode::PAYLOAD_TOO_LARGE, format_args!("a picture may have at most {limit} bytes")))
}

/// An answer after which the connection ends: what the client still sends is not read.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
