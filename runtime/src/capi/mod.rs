//! The C interface. Its header, `runtime/include/edge_vit.h`, is made from this folder, with the comments here as its
//! manual.
//!
//! No crate type is named in the manifest, so that Rust programs build none that they do not use. A library for C:
//!
//! ```text
//! cargo rustc -p edge-vit --lib --release --no-default-features --features capi --crate-type staticlib
//! ```
//!
//! or `--crate-type cdylib` for a shared one. For bare WebAssembly (`--target wasm32-unknown-unknown`), which has no
//! source of random numbers, `RUSTFLAGS='--cfg getrandom_backend="unsupported"'` says so: of ONNX's operators only the
//! random ones would ask for it.
//!
//! This is the one place of the crate with `unsafe` code: C gives addresses, and nothing but the caller's word says
//! what lies there. Every address is checked against null and becomes a reference or a slice once, at the function's
//! entry; all that follows is safe. No panic crosses the boundary: it becomes a status.

#![allow(unsafe_code)]

mod frame;
mod status;

use std::ffi::{CStr, CString, c_char};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use frame::{EdgeVitFormat, EdgeVitFrame, EdgeVitMatrix, EdgeVitPlane, EdgeVitRange};
pub use status::{EdgeVitStatus, edge_vit_last_error};
use status::{Failure, answer};

use crate::frame::{Decoder, Frame};
use crate::{Classifier, Error, Workspace};

/// A model that is ready to run, with the buffers that it runs in.
///
/// Any thread may call any function with it. Calls with the same one wait for each other; calls with different ones do
/// not. It is freed once, when no call uses it.
pub struct EdgeVit {
    classifier: Classifier,
    labels: Vec<CString>,
    buffers: Mutex<Buffers>,
}

/// What is kept from picture to picture, so that memory is taken for the first ones only.
struct Buffers {
    decoder: Decoder,
    workspace: Workspace,
}

impl EdgeVit {
    fn new(classifier: Classifier) -> Result<Self, Failure> {
        let label = |label: &String| CString::new(label.as_str());
        let labels = classifier.bundle().labels.iter().map(label).collect::<Result<_, _>>().map_err(|_| {
            Failure::new(EdgeVitStatus::Model, "a label of the model holds a zero byte: C cannot name it".to_owned())
        })?;
        let buffers = Mutex::new(Buffers { decoder: Decoder::new(), workspace: classifier.workspace() });
        Ok(Self { classifier, labels, buffers })
    }

    /// The buffers, even after a panic of another call: each picture overwrites them.
    fn buffers(&self) -> MutexGuard<'_, Buffers> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the scores of `frame` into `scores`, which is as long as there are labels.
    fn classify(&self, frame: &Frame<'_>, workspace: &mut Workspace, scores: &mut [f32]) -> Result<(), Error> {
        let logits = self.classifier.frame_logits(frame, workspace)?;
        self.classifier.bundle().activation.apply_into(logits, 1.0, scores);
        Ok(())
    }
}

/// Reads and prepares the model file at `path` (UTF-8, ended by a zero byte) and writes its address to `model`.
///
/// What it gives is freed with `edge_vit_free`. On failure `model` is left as it is.
///
/// # Safety
/// `path` is null or a string that ends with a zero byte; `model` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edge_vit_open(path: *const c_char, model: *mut *mut EdgeVit) -> EdgeVitStatus {
    answer(|| {
        if path.is_null() {
            return Err(Failure::null("path"));
        }
        // SAFETY: it is not null, and the caller says that it is a string.
        let path = unsafe { CStr::from_ptr(path) };
        let path = path.to_str().map_err(|_| Failure::argument("`path` is not UTF-8".to_owned()))?;
        // SAFETY: the caller says that `model` may be written unless it is null.
        unsafe { hand_over(model, || Ok(Classifier::open(path)?)) }
    })
}

/// Prepares the model file with these `len` bytes and writes its address to `model`. The bytes are not kept.
///
/// What it gives is freed with `edge_vit_free`. On failure `model` is left as it is.
///
/// # Safety
/// `bytes` is null or `len` readable bytes; `model` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edge_vit_from_bytes(bytes: *const u8, len: usize, model: *mut *mut EdgeVit) -> EdgeVitStatus {
    answer(|| {
        // SAFETY: the caller says so of `bytes`, and that `model` may be written unless it is null.
        unsafe { hand_over(model, || Ok(Classifier::from_bytes(slice(bytes, len, "bytes")?)?)) }
    })
}

/// A second handle of the same model, with buffers of its own: what another thread takes to classify at the same time.
/// The weights are shared and live until the last handle is freed.
///
/// # Safety
/// `model` is null or comes from this library and is not freed; `copy` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edge_vit_share(model: *const EdgeVit, copy: *mut *mut EdgeVit) -> EdgeVitStatus {
    answer(|| {
        // SAFETY: the caller says so of both.
        unsafe { hand_over(copy, || Ok(handle(model)?.classifier.clone())) }
    })
}

/// Frees the model. Null is left alone.
///
/// # Safety
/// `model` is null, or comes from this library, is not freed yet, and no call is using it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edge_vit_free(model: *mut EdgeVit) {
    if !model.is_null() {
        // SAFETY: `hand_over` made it of a box, and the caller says that nobody else has it.
        let model = unsafe { Box::from_raw(model) };
        answer(|| {
            drop(model);
            Ok(())
        });
    }
}

/// How many labels the model has, which is how many scores it gives; 0 for null.
///
/// # Safety
/// `model` is null or comes from this library and is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edge_vit_labels(model: *const EdgeVit) -> usize {
    // SAFETY: the caller says so.
    unsafe { model.as_ref() }.map_or(0, |model| model.labels.len())
}

/// The label of score `index`, UTF-8 and ended by a zero byte, valid until the model is freed; null if there is none.
///
/// # Safety
/// `model` is null or comes from this library and is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edge_vit_label(model: *const EdgeVit, index: usize) -> *const c_char {
    // SAFETY: the caller says so.
    let label = unsafe { model.as_ref() }.and_then(|model| model.labels.get(index));
    label.map_or(std::ptr::null(), |label| label.as_ptr())
}

/// Classifies a frame as it lies in memory; nothing of it is copied or kept. Its score for each label, 0 to 1, goes
/// to `scores`, of which there are `len`: as many as labels. On failure the scores are not to be used. A model of clips keeps the newest
/// frames, at its own size, and sees them with this one.
///
/// After the first frame of a size no memory is taken outside the model.
///
/// # Safety
/// `model` is null or comes from this library and is not freed; `frame` is null or a frame whose planes are null or
/// as many readable bytes as it says; `scores` is null or `len` floats that may be written and are not in the frame.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edge_vit_classify_frame(
    model: *const EdgeVit,
    frame: *const EdgeVitFrame,
    scores: *mut f32,
    len: usize,
) -> EdgeVitStatus {
    answer(|| {
        // SAFETY: the caller says so of all three.
        let (model, frame) = unsafe { (handle(model)?, frame.as_ref().ok_or_else(|| Failure::null("frame"))?) };
        let scores = unsafe { scores_of(model, scores, len)? };
        let frame = unsafe { frame.borrow()? };
        Ok(model.classify(&frame, &mut model.buffers().workspace, scores)?)
    })
}

/// Classifies the picture file with these `picture_len` bytes: JPEG (also as cameras send it), PNG or any other
/// format that this build reads. Its score for each label, 0 to 1, goes to `scores`, of which there are `len`: as
/// many as labels. On failure the scores are not to be used.
///
/// # Safety
/// `model` is null or comes from this library and is not freed; `picture` is null or `picture_len` readable bytes;
/// `scores` is null or `len` floats that may be written and are not in the picture.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edge_vit_classify_encoded(
    model: *const EdgeVit,
    picture: *const u8,
    picture_len: usize,
    scores: *mut f32,
    len: usize,
) -> EdgeVitStatus {
    answer(|| {
        // SAFETY: the caller says so of all three.
        let (model, picture) = unsafe { (handle(model)?, slice(picture, picture_len, "picture")?) };
        let scores = unsafe { scores_of(model, scores, len)? };
        let Buffers { decoder, workspace } = &mut *model.buffers();
        let frame = decoder.decode(picture)?;
        Ok(model.classify(&frame, workspace, scores)?)
    })
}

/// Forgets the frames that a model of clips has seen: the next one is of something else. A model of pictures keeps none.
///
/// # Safety
/// `model` is null or comes from this library and is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edge_vit_forget(model: *const EdgeVit) -> EdgeVitStatus {
    answer(|| {
        // SAFETY: the caller says so.
        let model = unsafe { handle(model)? };
        model.buffers().workspace.forget();
        Ok(())
    })
}

/// Proves on the pictures that the file carries that this machine computes what the desktop computed. The largest
/// difference of an output, relative to the largest output, goes to `difference` unless that is null.
///
/// # Safety
/// `model` is null or comes from this library and is not freed; `difference` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edge_vit_self_test(model: *const EdgeVit, difference: *mut f32) -> EdgeVitStatus {
    answer(|| {
        // SAFETY: the caller says so of both.
        let (model, difference) = unsafe { (handle(model)?, difference.as_mut()) };
        let report = model.classifier.self_test()?;
        if let Some(difference) = difference {
            *difference = report.logit_difference();
        }
        if report.passed() {
            return Ok(());
        }
        let message = "this machine computes other results than the desktop on the model's own pictures".to_owned();
        Err(Failure::new(EdgeVitStatus::SelfTest, message))
    })
}

/// The version of this library, such as `0.1.0`.
#[unsafe(no_mangle)]
pub extern "C" fn edge_vit_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("the version holds a zero byte"),
    };
    VERSION.as_ptr()
}

/// Writes the address of a new handle to `out`, which is looked at before the work is done.
///
/// # Safety
/// `out` is null or may be written.
unsafe fn hand_over(
    out: *mut *mut EdgeVit,
    classifier: impl FnOnce() -> Result<Classifier, Failure>,
) -> Result<(), Failure> {
    if out.is_null() {
        return Err(Failure::null("model"));
    }
    let model = Box::new(EdgeVit::new(classifier()?)?);
    // SAFETY: it is not null, and the caller says that it may be written. What it held may be no handle: it is not
    // read.
    unsafe { out.write(Box::into_raw(model)) };
    Ok(())
}

/// # Safety
/// `model` is null or a handle that outlives `'a`.
unsafe fn handle<'a>(model: *const EdgeVit) -> Result<&'a EdgeVit, Failure> {
    // SAFETY: the caller says so.
    unsafe { model.as_ref() }.ok_or_else(|| Failure::null("model"))
}

/// # Safety
/// `bytes` is null or `len` bytes that nobody writes to during `'a`.
unsafe fn slice<'a>(bytes: *const u8, len: usize, name: &str) -> Result<&'a [u8], Failure> {
    match (bytes.is_null(), isize::try_from(len)) {
        (true, _) => Err(Failure::null(name)),
        (false, Err(_)) => Err(Failure::argument(format!("`{name}` cannot be {len} bytes long"))),
        // SAFETY: the caller says so, and no object is longer than `isize` can say.
        (false, Ok(_)) => Ok(unsafe { std::slice::from_raw_parts(bytes, len) }),
    }
}

/// The caller's scores, one a label of `model`, set to 0.
///
/// # Safety
/// `scores` is null or `len` floats that nobody else touches during `'a`.
unsafe fn scores_of<'a>(model: &EdgeVit, scores: *mut f32, len: usize) -> Result<&'a mut [f32], Failure> {
    if scores.is_null() {
        return Err(Failure::null("scores"));
    }
    let labels = model.labels.len();
    if len != labels {
        return Err(Failure::argument(format!("the model gives {labels} scores, there is room for {len}")));
    }
    // C may not have written to them yet. SAFETY: they are as many as the caller says.
    unsafe { scores.write_bytes(0, len) };
    // SAFETY: they are written, and the caller says that nobody else touches them.
    Ok(unsafe { std::slice::from_raw_parts_mut(scores, len) })
}
