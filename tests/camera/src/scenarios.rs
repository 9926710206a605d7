//! What is done to a camera, and what has to come of it.
//!
//! The chart's model says `right` only of a picture with right colours. Limits of seconds are the virtual machine's
//! own: its clock follows the instructions that it executes, so a busy host does not change what is measured.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::program::{self, Answer, Program};
use crate::system::{devices, module, plug, run, wait_for};
use crate::usb::{Format, Mode};

/// How long the program may take to start and give its first answer, or to come back after a fault.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a lost or stalled camera has to be reported within.
const REPORT: Duration = Duration::from_secs(2);
/// How long a camera stays away or silent.
const AWAY: Duration = Duration::from_secs(3);
/// Answers that are looked at where each has to be right.
const ANSWERS: usize = 5;
/// The least score of a label: with wrong colours that of the right one is near 0.
const SCORE: f64 = 0.9;

/// The labels of the chart's model that are looked for.
const RIGHT: &str = "right";
const GREY: &str = "grey";

/// A scenario: gives what was found, or what is wrong.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: fn() -> Result<String, String>,
}

/// All scenarios, in the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "vivid: its test picture", run: vivid },
    Scenario { name: "USB: MJPEG", run: || one_format(Format::Mjpeg, "chart.jpg", RIGHT) },
    Scenario { name: "USB: YUYV", run: || one_format(Format::Yuyv, "chart.yuyv", RIGHT) },
    Scenario { name: "USB: NV12", run: || one_format(Format::Nv12, "chart.nv12", RIGHT) },
    Scenario { name: "USB: grey", run: || one_format(Format::Grey, "chart.grey", GREY) },
    Scenario { name: "USB: MJPEG without Huffman tables", run: without_huffman_tables },
    Scenario { name: "USB: cut frames", run: || damaged("cut.jpg") },
    Scenario { name: "USB: corrupted frames", run: || damaged("corrupted.jpg") },
    Scenario { name: "USB: empty frames", run: || damaged("empty.jpg") },
    Scenario { name: "USB: unplugged and plugged in again", run: || unplugged(false) },
    Scenario { name: "USB: plugged in again under another number", run: || unplugged(true) },
    Scenario { name: "USB: stalled", run: stalled },
];

/// The vivid driver gives colour bars of its own in the format that is chosen of its many.
fn vivid() -> Result<String, String> {
    let options = ["n_devs=1", "node_types=0x1", "num_inputs=1", "input_types=0x0"];
    run(Command::new("insmod").arg(module("vivid")?).args(options))?;
    let result = Program::start(&[]).and_then(|mut program| look(&mut program, RIGHT));
    run(Command::new("rmmod").arg("vivid"))?;
    result
}

/// A camera that has nothing but `format`.
fn one_format(format: Format, file: &str, label: &str) -> Result<String, String> {
    let _camera = plug(vec![mode(format, &[file])?])?;
    look(&mut Program::start(&[])?, label)
}

/// A camera that leaves the Huffman tables out is one like others.
fn without_huffman_tables() -> Result<String, String> {
    let _camera = plug(vec![mode(Format::Mjpeg, &["no-huffman.jpg"])?])?;
    let mut program = Program::start(&[])?;
    let found = look(&mut program, RIGHT)?;
    match program.answer(PATIENCE, |_| true)?.count("damaged")? {
        0 => Ok(found),
        count => Err(format!("{count} frames were taken for damaged")),
    }
}

/// Of a camera whose every other frame is damaged the whole ones are classified, the others counted.
fn damaged(file: &str) -> Result<String, String> {
    let camera = plug(vec![mode(Format::Mjpeg, &["chart.jpg"])?])?;
    let mut program = Program::start(&[])?;
    let before = right(&program.answer(PATIENCE, |_| true)?)?.count("damaged")?;
    camera.show(&frames(&[file, "chart.jpg"])?);
    let end = Instant::now() + PATIENCE;
    let (mut answers, mut damaged) = (0, 0);
    while damaged < ANSWERS as u64 {
        if Instant::now() > end {
            return Err(format!("{damaged} frames counted as damaged beside {answers} answers"));
        }
        damaged = right(&program.answer(PATIENCE, |_| true)?)?.count("damaged")? - before;
        answers += 1;
    }
    Ok(format!("{damaged} frames counted as damaged between {answers} answers `{RIGHT}`"))
}

/// A camera that is unplugged while the program runs comes back when it is plugged in, also where the kernel gives it
/// another number because someone holds the old one.
fn unplugged(moved: bool) -> Result<String, String> {
    let modes = vec![mode(Format::Mjpeg, &["chart.jpg"])?];
    let camera = plug(modes.clone())?;
    let mut program = Program::start(&[])?;
    look(&mut program, RIGHT)?;
    let node = Path::new("/dev/video0");
    let held = moved.then(|| File::open(node)).transpose().map_err(|error| format!("{}: {error}", node.display()))?;

    let start = Instant::now();
    drop(camera);
    let line = program.logged(PATIENCE, |line| line.contains("unplugged"))?;
    let reported = in_time(start, &line)?;
    wait_for("the camera's device goes", || devices().is_empty())?;
    thread::sleep(AWAY);

    let start = Instant::now();
    let _camera = plug(modes)?;
    if node.exists() == moved {
        return Err(format!("the camera is at {:?}", devices()));
    }
    let answer = program.answer(PATIENCE, |answer| answer.count("reopened").is_ok_and(|count| count > 0))?;
    right(&answer)?;
    let back = start.elapsed().as_secs_f64();
    drop(held);
    Ok(format!("reported after {reported:.2} s, `{RIGHT}` again {back:.2} s after it was plugged in"))
}

/// A camera that gives no frame any more without a word is reported in the log and at `/healthz`, and goes on when it
/// does.
fn stalled() -> Result<String, String> {
    let camera = plug(vec![mode(Format::Mjpeg, &["chart.jpg"])?])?;
    let mut program = Program::start(&["--serve", program::ADDRESS])?;
    look(&mut program, RIGHT)?;
    let (healthy, report) = program::health()?;
    if !healthy {
        return Err(format!("not healthy although frames come: {report}"));
    }

    let start = Instant::now();
    camera.stall(true);
    let line = program.logged(PATIENCE, |line| line.contains("no frame for"))?;
    let reported = in_time(start, &line)?;
    thread::sleep(REPORT.saturating_sub(start.elapsed()));
    let (healthy, report) = program::health()?;
    if healthy || !report.contains("no frame for") {
        return Err(format!("/healthz does not tell the stall after {} s: {report}", REPORT.as_secs()));
    }
    thread::sleep(AWAY);

    let start = Instant::now();
    camera.stall(false);
    let answer = program.answer(PATIENCE, |answer| answer.count("reopened").is_ok_and(|count| count > 0))?;
    let stalls = right(&answer)?.count("stalls")?;
    if stalls == 0 {
        return Err("no stall was counted".to_owned());
    }
    let back = start.elapsed().as_secs_f64();
    Ok(format!("reported after {reported:.2} s, `{RIGHT}` again {back:.2} s after frames came"))
}

/// The seconds since `start`, if the report came in time.
fn in_time(start: Instant, line: &str) -> Result<f64, String> {
    let after = start.elapsed();
    if after > REPORT {
        return Err(format!("reported after {:.2} s: {line}", after.as_secs_f64()));
    }
    Ok(after.as_secs_f64())
}

/// Looks at the next answers: each has to be `label`.
fn look(program: &mut Program, label: &str) -> Result<String, String> {
    let mut least = f64::INFINITY;
    for _ in 0..ANSWERS {
        let answer = program.answer(PATIENCE, |_| true)?;
        least = least.min(is(&answer, label)?.score());
    }
    Ok(format!("{ANSWERS} answers `{label}`, least score {least:.3}"))
}

fn right(answer: &Answer) -> Result<&Answer, String> {
    is(answer, RIGHT)
}

fn is<'a>(answer: &'a Answer, label: &str) -> Result<&'a Answer, String> {
    if answer.label() != label || answer.score() < SCORE {
        return Err(format!("`{}` with score {:.3} and not `{label}`", answer.label(), answer.score()));
    }
    Ok(answer)
}

/// Frames of the chart's size, ten a second.
fn mode(format: Format, files: &[&str]) -> Result<Mode, String> {
    Ok(Mode { format, width: 640, height: 480, rate: 10, frames: frames(files)? })
}

/// Files of the chart.
fn frames(files: &[&str]) -> Result<Vec<Arc<[u8]>>, String> {
    let read =
        |file| fs::read(Path::new("/chart").join(file)).map(Arc::from).map_err(|error| format!("{file}: {error}"));
    files.iter().copied().map(read).collect()
}
