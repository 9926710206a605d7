//! The live page in a real browser, fed by a camera that is made up.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod browser;

use std::f32::consts::TAU;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use browser::Browser;
use edge_vit::capture::{Counts, Health};
use edge_vit::serve::{Hub, Options, Server, preview};
use edge_vit::{Candidate, Observation, Stages, UNKNOWN};
use image::{Rgb, RgbImage};

const LABELS: [&str; 5] = ["orange", "lemon", "Granny Smith", "pomegranate", "strawberry"];

/// What the made-up camera sees.
#[derive(Clone, Copy, PartialEq)]
enum Scene {
    Fruit,
    Nothing,
}

/// A loop that classifies ten made-up pictures a second.
struct Camera {
    scenes: Sender<Scene>,
    thread: Option<JoinHandle<()>>,
}

impl Camera {
    fn start(hub: Arc<Hub>) -> Self {
        let (scenes, changes) = channel();
        let thread = thread::spawn(move || {
            let mut scene = Scene::Fruit;
            for frame in 0.. {
                match changes.recv_timeout(Duration::from_millis(100)) {
                    Ok(next) => scene = next,
                    Err(RecvTimeoutError::Timeout) => (),
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                let picture = hub.wants_preview().then(|| preview(&(&picture(frame)).into()).into());
                hub.publish(&observation(frame, scene), picture);
            }
        });
        Self { scenes, thread: Some(thread) }
    }

    fn show(&self, scene: Scene) {
        self.scenes.send(scene).unwrap();
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.scenes = channel().0;
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A ball that goes round on a dim ground; its colour is the label's.
fn picture(frame: u64) -> RgbImage {
    let angle = frame as f32 / 20.0 * TAU;
    let [x0, y0] = [320.0 + 120.0 * angle.cos(), 240.0 + 70.0 * angle.sin()];
    let ball = if chosen(frame) == 0 { [240.0, 140.0, 30.0] } else { [235.0, 215.0, 60.0] };
    RgbImage::from_fn(640, 480, |x, y| {
        let [x, y] = [x as f32, y as f32];
        let distance = ((x - x0).powi(2) + (y - y0).powi(2)).sqrt();
        let light = 1.0 - 0.45 * ((x - x0 + 40.0).hypot(y - y0 + 50.0) / 150.0).min(1.0);
        let edge = ((112.0 - distance) / 2.0).clamp(0.0, 1.0);
        let ground = [62.0 + y / 8.0, 74.0 + y / 9.0, 82.0 + x / 16.0];
        let mix = |channel: usize| (ball[channel] * light * edge + ground[channel] * (1.0 - edge)) as u8;
        Rgb([mix(0), mix(1), mix(2)])
    })
}

/// The label changes every three seconds.
fn chosen(frame: u64) -> usize {
    (frame / 30 % 2) as usize
}

fn observation(frame: u64, scene: Scene) -> Observation {
    let wave = (frame as f32 / 9.0).sin();
    let mut scores = match scene {
        Scene::Fruit => [0.82 + 0.05 * wave, 0.09 - 0.03 * wave, 0.04, 0.02, 0.011],
        Scene::Nothing => [0.27 + 0.02 * wave, 0.24, 0.2 - 0.01 * wave, 0.17, 0.12],
    };
    scores.swap(0, chosen(frame));
    let mut top: Vec<_> =
        LABELS.iter().zip(scores).map(|(&label, score)| Candidate { label: label.into(), score }).collect();
    top.sort_by(|a, b| b.score.total_cmp(&a.score));
    let known = scene == Scene::Fruit;
    let model_ms = 41.0 + 4.0 * f64::from(wave);
    Observation {
        source: "/dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920_1F2A3B4C-video-index0".into(),
        frame,
        time: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64(),
        age_ms: model_ms + 14.0,
        label: if known { Arc::clone(&top[0].label) } else { UNKNOWN.into() },
        known,
        changed: frame.is_multiple_of(30),
        score: top[0].score,
        top,
        stages: Stages { decode_ms: 3.2, prepare_ms: 1.6, model_ms },
        counts: Counts { captured: 3 * frame + 2, taken: frame, dropped: 2 * frame, damaged: 1, ..Counts::default() },
    }
}

/// A digest of what the picture shows now.
const PICTURE: &str = "(() => { const picture = document.getElementById('picture'); if (!picture.naturalWidth) return null; \
    const canvas = new OffscreenCanvas(64, 48); const context = canvas.getContext('2d'); \
    context.drawImage(picture, 0, 0, 64, 48); \
    return context.getImageData(0, 0, 64, 48).data.reduce((sum, value, at) => (31 * sum + value * at) | 0, 7); })()";

fn check_layout(browser: &Browser, width: u32) {
    let widest = browser.eval("document.documentElement.scrollWidth").as_u64().unwrap();
    assert_eq!(widest, u64::from(width), "the page scrolls sideways");
}

fn text(id: &str) -> String {
    format!("document.getElementById('{id}').textContent")
}

#[test]
fn the_page_shows_a_live_camera_and_says_why_when_there_is_none() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let Some(browser) = Browser::start(&folder) else { return };

    let hub = Arc::new(Hub::new(LABELS));
    let token = "a+token&that=needs+encoding".to_owned();
    let options = Options { address: "127.0.0.1:0".parse().unwrap(), token: Some(token.clone()), ..Options::default() };
    let server = Server::start(options.clone(), Arc::clone(&hub)).unwrap();
    let encoded = token.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    let desktop = |scheme: &str| browser.emulate([1280, 800], false, scheme);
    let shoot = |name: &str| browser.screenshot(&folder.join(format!("{name}.png")));

    desktop("light");
    browser.open(&format!("http://{}/?token={encoded}", server.address()));
    browser.until("document.body.dataset.state === 'starting'");
    shoot("starting");

    // Picture, label and latency change.
    let camera = Camera::start(Arc::clone(&hub));
    hub.set_health(Health::Live);
    browser.until("document.body.dataset.state === 'live'");
    for expression in [PICTURE.to_owned(), text("label"), text("age"), text("rate"), text("dropped")] {
        browser.until(&format!("(() => {{ const now = {expression}; return now !== null && now !== '–'; }})()"));
        let first = browser.eval(&expression);
        browser.until(&format!("{expression} !== {first}"));
    }
    browser.until(&format!("Math.abs(parseFloat({}) - 10) < 3", text("rate")));
    assert_eq!(browser.eval("document.querySelectorAll('#top li').length"), 5);
    check_layout(&browser, 1280);
    shoot("live-desktop-light");
    desktop("dark");
    shoot("live-desktop-dark");
    for (width, scheme) in [(360, "light"), (360, "dark"), (320, "light")] {
        browser.emulate([width, 740], true, scheme);
        check_layout(&browser, width);
        shoot(&format!("live-phone-{width}-{scheme}"));
    }

    camera.show(Scene::Nothing);
    browser.until("document.body.dataset.known === 'no'");
    assert_eq!(browser.eval(&text("label")), "Unknown");
    shoot("unknown-phone-light");
    desktop("dark");
    shoot("unknown-desktop-dark");

    let reason =
        "/dev/v4l/by-id/usb-046d_HD_Pro_Webcam_C920_1F2A3B4C-video-index0 is gone: No such device (os error 19)";
    hub.set_health(Health::Waiting(reason.to_owned()));
    drop(camera);
    browser.until("document.body.dataset.state === 'waiting'");
    assert_eq!(browser.eval(&text("notice-text")), reason);
    thread::sleep(Duration::from_millis(500));
    shoot("waiting-desktop-dark");
    browser.emulate([360, 740], true, "light");
    check_layout(&browser, 360);
    shoot("waiting-phone-light");

    let complaints = browser.console();
    assert!(complaints.is_empty(), "the console is not empty: {complaints:?}");

    // The server goes and comes back; the page finds it by itself, picture and all.
    let address = server.address();
    drop(server);
    browser.until("document.body.dataset.state === 'unreachable'");
    thread::sleep(Duration::from_millis(500));
    shoot("unreachable-phone-light");
    hub.set_health(Health::Live);
    let _camera = Camera::start(Arc::clone(&hub));
    let _server = Server::start(Options { address, ..options }, Arc::clone(&hub)).unwrap();
    browser.until("document.body.dataset.state === 'live'");
    let first = browser.eval(PICTURE);
    browser.until(&format!("(() => {{ const now = {PICTURE}; return now !== null && now !== {first}; }})()"));
    browser.until("document.body.dataset.known === 'yes'");
}
