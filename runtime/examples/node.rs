//! A node in the manner of ROS 2, without ROS.
//!
//!     node MODEL PICTURE
//!
//! What a wrapper for a robot's middleware holds: a subscription to pictures (`sensor_msgs/Image`), a publisher of
//! results (`vision_msgs/Classification`), a parameter, and the states of a managed node: unconfigured, inactive,
//! active, finalized. Topics and services are channels here; put the middleware's in their place.

use std::error::Error;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::time::SystemTime;
use std::{env, iter, thread};

use edge_vit::frame::{FrameLayout, Matrix, PixelFormat, Range};
use edge_vit::{Classifier, Workspace};

/// When and where a message's data was taken.
#[derive(Debug, Clone)]
struct Header {
    stamp: SystemTime,
    frame_id: String,
}

/// A raw picture, with the fields of `sensor_msgs/Image`.
#[derive(Debug, Clone)]
struct Image {
    header: Header,
    height: u32,
    width: u32,
    encoding: String,
    step: u32,
    data: Vec<u8>,
}

/// A result; no label if none of the classes is sure enough.
#[derive(Debug)]
struct Classification {
    header: Header,
    label: Option<String>,
    score: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unconfigured,
    Inactive,
    Active,
    Finalized,
}

#[derive(Debug, Clone, Copy)]
enum Transition {
    Configure,
    Activate,
    Deactivate,
    Cleanup,
    Shutdown,
}

/// What comes in: pictures of the topic, and calls of the services with the place for their answer.
enum Incoming {
    Image(Image),
    Change(Transition, Sender<Result<State, String>>),
    SetThreshold(f32, Sender<Result<(), String>>),
}

struct Node {
    model: PathBuf,
    threshold: f32,
    state: State,
    /// There from configuration to cleanup.
    loaded: Option<(Classifier, Workspace)>,
    results: Sender<Classification>,
}

impl Node {
    fn new(model: PathBuf, results: Sender<Classification>) -> Self {
        Self { model, threshold: 0.0, state: State::Unconfigured, loaded: None, results }
    }

    /// Works until it is shut down or nobody can call it any more.
    fn spin(mut self, incoming: &Receiver<Incoming>) {
        while self.state != State::Finalized {
            let Ok(first) = incoming.recv() else { return };
            let mut newest = None;
            for message in iter::once(first).chain(incoming.try_iter()) {
                // Whoever asked may be gone by now; the answer is then nobody's.
                match message {
                    // A history of depth 1: pictures that came while another was classified are too old already.
                    Incoming::Image(image) => newest = (self.state == State::Active).then_some(image),
                    Incoming::Change(transition, answer) => _ = answer.send(self.change(transition)),
                    Incoming::SetThreshold(value, answer) => _ = answer.send(self.set_threshold(value)),
                }
            }
            if let (State::Active, Some(image)) = (self.state, newest) {
                self.on_image(image);
            }
        }
    }

    fn change(&mut self, transition: Transition) -> Result<State, String> {
        self.state = match (self.state, transition) {
            (State::Unconfigured, Transition::Configure) => {
                let classifier = Classifier::open(&self.model).map_err(|error| error.to_string())?;
                // A node whose machine computes something else must not become active.
                match classifier.self_test() {
                    Ok(report) if report.passed() => (),
                    Ok(report) => return Err(format!("self-test: off by {}", report.logit_difference())),
                    Err(error) => return Err(error.to_string()),
                }
                let workspace = classifier.workspace();
                self.loaded = Some((classifier, workspace));
                State::Inactive
            }
            (State::Inactive, Transition::Activate) => State::Active,
            (State::Active, Transition::Deactivate) => State::Inactive,
            (State::Inactive, Transition::Cleanup) => {
                self.loaded = None;
                State::Unconfigured
            }
            (State::Unconfigured | State::Inactive | State::Active, Transition::Shutdown) => State::Finalized,
            (state, transition) => return Err(format!("{transition:?} is no way out of {state:?}")),
        };
        Ok(self.state)
    }

    fn set_threshold(&mut self, value: f32) -> Result<(), String> {
        if !(0.0..=1.0).contains(&value) {
            return Err(format!("the threshold is 0 to 1, not {value}"));
        }
        self.threshold = value;
        Ok(())
    }

    fn on_image(&mut self, image: Image) {
        match self.classify(&image) {
            // Nobody listens any more: that is not the node's business.
            Ok((label, score)) => _ = self.results.send(Classification { header: image.header, label, score }),
            Err(error) => eprintln!("picture skipped: {error}"),
        }
    }

    fn classify(&mut self, image: &Image) -> Result<(Option<String>, f32), Box<dyn Error>> {
        let (classifier, workspace) = self.loaded.as_mut().ok_or("no model is loaded")?;
        let logits = classifier.frame_logits(&layout(image)?.frame(&image.data)?, workspace)?;
        let bundle = classifier.bundle();
        let scores = bundle.activation.apply(logits);
        let (index, score) =
            scores.into_iter().enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).ok_or("the model has no classes")?;
        Ok(((score >= self.threshold).then(|| bundle.labels[index].clone()), score))
    }
}

/// How an image's bytes lie, by its encoding's name in ROS.
fn layout(image: &Image) -> Result<FrameLayout, String> {
    let format = match image.encoding.as_str() {
        "rgb8" => PixelFormat::Rgb,
        "bgr8" => PixelFormat::Bgr,
        "mono8" => PixelFormat::Grey,
        "yuv422_yuy2" => PixelFormat::Yuyv,
        "nv12" => PixelFormat::Nv12,
        other => return Err(format!("the encoding {other} is not known here")),
    };
    let (width, height, stride) = (image.width, image.height, image.step as usize);
    Ok(FrameLayout { format, width, height, stride, range: Range::Full, matrix: Matrix::Bt601 })
}

/// What other nodes do with this one: calls of its services, pictures to its topic.
struct Client {
    node: Sender<Incoming>,
    results: Receiver<Classification>,
}

impl Client {
    fn change(&self, transition: Transition) -> Result<State, Box<dyn Error>> {
        let (answer, answered) = channel();
        self.node.send(Incoming::Change(transition, answer))?;
        let state = answered.recv()??;
        println!("{transition:?}: {state:?}");
        Ok(state)
    }

    fn set_threshold(&self, value: f32) -> Result<(), Box<dyn Error>> {
        let (answer, answered) = channel();
        self.node.send(Incoming::SetThreshold(value, answer))?;
        Ok(answered.recv()??)
    }

    fn publish(&self, image: &Image) -> Result<(), SendError<Incoming>> {
        self.node.send(Incoming::Image(image.clone()))
    }

    /// Publishes a picture and waits for its result.
    fn classify(&self, image: &Image) -> Result<(), Box<dyn Error>> {
        self.publish(image)?;
        let Classification { header, label, score } = self.results.recv()?;
        let age = header.stamp.elapsed()?;
        println!("{}: {} {score:.6}", header.frame_id, label.as_deref().unwrap_or("unknown"));
        eprintln!("{:.1} ms after it was taken", 1000.0 * age.as_secs_f64());
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(model), Some(picture)) = (arguments.next(), arguments.next()) else {
        return Err("usage: node MODEL PICTURE".into());
    };
    let picture = edge_vit::open_picture(picture)?;
    let image = Image {
        header: Header { stamp: SystemTime::now(), frame_id: "camera".to_owned() },
        height: picture.height(),
        width: picture.width(),
        encoding: "rgb8".to_owned(),
        step: 3 * picture.width(),
        data: picture.into_raw(),
    };

    let (node, incoming) = channel();
    let (publisher, results) = channel();
    let spinning = Node::new(model.into(), publisher);
    let spinning = thread::spawn(move || spinning.spin(&incoming));
    let client = Client { node, results };

    client.change(Transition::Configure)?;
    // An inactive node takes pictures and does nothing with them.
    client.publish(&image)?;
    client.change(Transition::Activate)?;
    client.classify(&image)?;
    // One that it cannot read is skipped; the next one is classified.
    client.publish(&Image { encoding: "bayer_rggb16".to_owned(), ..image.clone() })?;
    client.set_threshold(1.0)?;
    client.classify(&image)?;
    if let Err(refusal) = client.set_threshold(1.5) {
        println!("refused: {refusal}");
    }
    client.change(Transition::Deactivate)?;
    client.change(Transition::Cleanup)?;
    client.change(Transition::Shutdown)?;
    spinning.join().map_err(|_| "the node panicked")?;
    Ok(())
}
