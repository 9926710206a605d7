//! What can go wrong, one variant a cause. What lies beneath an error is its source, not part of its message.

use std::path::PathBuf;

use thiserror::Error;

use crate::frame::PixelFormat;
use crate::picture::MAX_SIDE;

/// An error of this crate. Each variant is one cause; the message says what was expected, what came, what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read from the disk.
    #[error("cannot read {}", path.display())]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The bytes are no picture that can be decoded, or stop in the middle of one.
    #[error("not a readable picture ({})", crate::picture::FORMATS)]
    Picture(#[source] image::ImageError),
    /// The picture would need more memory than a decoder is allowed to take.
    #[error("the picture is {width}x{height}; at most {max_side} pixels a side and {max_mib} MiB decoded are read")]
    PictureTooLarge {
        /// Width that the file announces, in pixels.
        width: u32,
        /// Height that the file announces, in pixels.
        height: u32,
        /// The longest side that is read, in pixels.
        max_side: u32,
        /// The largest decoded size that is read, in MiB.
        max_mib: u64,
    },
    /// The system gives no threads for the model to run on.
    #[error("cannot start {count} threads ({reason}); choose fewer")]
    Threads {
        /// How many were to be started.
        count: usize,
        /// What the system said.
        reason: String,
    },
    /// The picture has no pixels.
    #[error("the picture has no pixels ({width}x{height})")]
    EmptyPicture {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The bytes begin as a JPEG, and are damaged or cut short.
    #[error("a damaged JPEG: {reason}")]
    DamagedJpeg {
        /// What is wrong with it.
        reason: String,
    },
    /// A raw frame has fewer bytes than its size and format need.
    #[error("the frame needs {expected} bytes and has {got}; check its size, format and stride")]
    FrameBytes {
        /// Bytes that are needed.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
    /// The rows of a raw frame would overlap.
    #[error("a row of the frame has {row} bytes, so its stride cannot be {stride}; it is counted in bytes")]
    FrameStride {
        /// Bytes of a row without padding.
        row: usize,
        /// Bytes from row to row that came.
        stride: usize,
    },
    /// Chroma is shared between pixels, and the frame's sides are no multiples of what shares it.
    #[error("a {format:?} frame has even sides where its chroma is halved, and this one is {width}x{height}")]
    OddFrame {
        /// The frame's format.
        format: PixelFormat,
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
    },
    /// A raw frame was given as another number of planes than its format has.
    #[error("a {format:?} frame has {expected} planes, {got} came")]
    FramePlanes {
        /// The frame's format.
        format: PixelFormat,
        /// Planes of the format.
        expected: usize,
        /// Planes that came.
        got: usize,
    },
    /// A raw frame is announced that is larger than is taken for serious, or than memory can be.
    #[error(
        "a frame of {width}x{height} with {stride} bytes from row to row is too large; at most {MAX_SIDE} pixels a side are read"
    )]
    FrameTooLarge {
        /// Announced width in pixels.
        width: u32,
        /// Announced height in pixels.
        height: u32,
        /// Announced bytes from row to row, 0 for rows without padding.
        stride: usize,
    },
    /// The model was to run in a workspace in which no frame was prepared for it.
    #[error("no frame was prepared for this model in this workspace; call `prepare` before `run_prepared`")]
    NothingPrepared,
    /// A picture could not be encoded into a golden case.
    #[error("cannot encode the golden picture as PNG")]
    EncodePicture(#[source] image::ImageError),
    /// A field of the preprocessing has a value that cannot be followed.
    #[error("preprocessing: `{field}` {reason}")]
    InvalidPreprocessing {
        /// The field.
        field: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// The bytes are not an ONNX model, or not a whole one.
    #[error("not an ONNX model, or one that was cut short: {reason}")]
    NotOnnx {
        /// What the reader met.
        reason: String,
    },
    /// The model uses operators that the runtime does not have.
    #[error("the model uses operators that this runtime does not have: {}; export it with standard ONNX operators, opset 17", operators.join(", "))]
    UnsupportedOperators {
        /// The operators' names, sorted, each once.
        operators: Vec<String>,
    },
    /// The model keeps weights in another file.
    #[error("the weight `{name}` lies in another file; export the model with its weights inside, as one file")]
    ExternalWeights {
        /// The first such weight.
        name: String,
    },
    /// The model is valid ONNX, but not of the form one picture in, one row of values out.
    #[error("the model does not take one float32 picture [1, 3, height, width] to one float32 row: {reason}")]
    ModelForm {
        /// What it has instead.
        reason: String,
    },
    /// The model's graph is inconsistent, or cannot be prepared for running.
    #[error("the model's graph cannot be prepared: {reason}")]
    Prepare {
        /// What the graph compiler said.
        reason: String,
    },
    /// The model ran into an error of its own.
    #[error("the model failed while it ran: {reason}")]
    Run {
        /// What the executor said.
        reason: String,
    },
    /// The values given to the model do not fill its input.
    #[error("the model takes {expected:?} ({} values), {got} values came", expected.iter().product::<usize>())]
    InputLength {
        /// The model's input `[3, height, width]`.
        expected: [usize; 3],
        /// How many values came.
        got: usize,
    },
    /// The model gave a value that is not a number, or infinite.
    #[error("the model's output {index} is {value}: the model, or what it was given, is broken")]
    NonFinite {
        /// Index of the first such output.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// The ONNX file carries no labels and no preprocessing.
    #[error(
        "this file was not written by `edge-vit-tools fold`: it carries no `edge_vit.*` metadata; fold the model first"
    )]
    NoBundle,
    /// The bundle's layout is of a version that this program does not know.
    #[error(
        "the file's bundle has format version {found}, this program reads version {known}; update the older of the two"
    )]
    BundleVersion {
        /// The version in the file.
        found: u32,
        /// The version that is read here.
        known: u32,
    },
    /// A key of the bundle is absent.
    #[error("the file's bundle lacks `{key}`; fold the model again")]
    BundleKeyMissing {
        /// The key.
        key: &'static str,
    },
    /// A key of the bundle holds something that cannot be read.
    #[error("the file's bundle holds a `{key}` that cannot be read; fold the model again")]
    BundleKeyInvalid {
        /// The key.
        key: &'static str,
        /// What the JSON reader said.
        source: serde_json::Error,
    },
    /// The fitted rejection has a number that is out of its range.
    #[error("rejection: `{field}` {reason}; fold the model again")]
    InvalidRejection {
        /// The field.
        field: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// The tolerance of the golden cases is none under which they would prove something.
    #[error(
        "golden tolerance: is {got}, not above 0 and at most {}; fold the model again",
        crate::bundle::LARGEST_GOLDEN_TOLERANCE
    )]
    InvalidGoldenTolerance {
        /// The tolerance in the file.
        got: f32,
    },
    /// The labels are empty, or one of them is empty or comes twice.
    #[error("labels: {reason}")]
    InvalidLabels {
        /// What is wrong.
        reason: String,
    },
    /// There are not as many labels as the model has outputs.
    #[error("the file has {labels} labels and its model {outputs} outputs; fold it with the labels it was trained on")]
    LabelCount {
        /// Labels in the bundle.
        labels: usize,
        /// Outputs of the model.
        outputs: usize,
    },
    /// The preprocessing makes pictures of another size than the model takes.
    #[error("the preprocessing makes pictures of {}x{} and the model takes {}x{} (height x width)", preprocessing[0], preprocessing[1], model[0], model[1])]
    PictureSize {
        /// Height and width that the preprocessing makes.
        preprocessing: [usize; 2],
        /// Height and width that the model takes.
        model: [usize; 2],
    },
    /// The preprocessing makes clips of another number of frames than the model takes.
    #[error(
        "the preprocessing makes clips of {preprocessing} frame(s) and the model takes {model}; fold the model again"
    )]
    ClipLength {
        /// Frames that the preprocessing makes.
        preprocessing: usize,
        /// Frames that the model takes.
        model: usize,
    },
    /// A picture is no filmstrip of the frames that the model sees at a time.
    #[error(
        "the model sees {frames} frames at a time, and a picture of {height} rows cannot be cut into {frames} frames, one below another"
    )]
    Filmstrip {
        /// Rows of the picture.
        height: u32,
        /// Frames that the model takes.
        frames: usize,
    },
    /// The bundle holds no golden case, so nothing can be compared.
    #[error("the file holds no golden case, so nothing can be proved; fold the model with pictures at hand")]
    NoGoldenCases,
    /// A golden case is damaged: its picture, its hash or its logits cannot be used.
    #[error("golden case: {reason}")]
    InvalidGoldenCase {
        /// What is wrong with it.
        reason: String,
    },
    /// The task cannot be done with what the bundle holds beside it.
    #[error("task: {reason}; fold the model again")]
    InvalidTask {
        /// What does not fit.
        reason: String,
    },
    /// The model's outputs are not one logit a label for each patch of the grid.
    #[error("the file has {labels} labels for {}x{} patches and its model gives {outputs:?}; fold it with the labels it was trained on", grid[0], grid[1])]
    PatchOutputs {
        /// Labels in the bundle.
        labels: usize,
        /// Rows and columns of patches in the bundle.
        grid: [usize; 2],
        /// Shape of the model's output.
        outputs: Vec<usize>,
    },
    /// The file is of another task than is asked for.
    #[error("this is a model for {got}, and one for {expected} is needed here")]
    OtherTask {
        /// The task needed.
        expected: &'static str,
        /// The task of the file.
        got: &'static str,
    },
    /// A mask cannot be made or read.
    #[error("not a mask: {reason}")]
    InvalidMask {
        /// What is wrong.
        reason: String,
    },
}
