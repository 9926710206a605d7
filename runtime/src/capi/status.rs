//! How a call came out, and the message of the last one that failed.

use std::cell::RefCell;
use std::error::Error as _;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Error;

/// How a call came out. The message of a failure is `edge_vit_last_error`'s.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeVitStatus {
    /// It was done.
    Ok = 0,
    /// An argument is null, too short or of no known value: the caller's mistake.
    Argument = 1,
    /// The file cannot be read.
    File = 2,
    /// The file is no model of this library, or a broken one.
    Model = 3,
    /// The picture or the frame cannot be decoded: the next one may be good.
    Picture = 4,
    /// The model failed while it ran.
    Run = 5,
    /// The self-test found other results than the desktop's: the model must not be trusted on this machine.
    SelfTest = 6,
    /// A mistake of this library.
    Internal = 7,
}

/// A status with its message.
pub(super) struct Failure {
    status: EdgeVitStatus,
    message: String,
}

impl Failure {
    pub(super) fn new(status: EdgeVitStatus, message: String) -> Self {
        Self { status, message }
    }

    pub(super) fn argument(message: String) -> Self {
        Self::new(EdgeVitStatus::Argument, message)
    }

    pub(super) fn null(name: &str) -> Self {
        Self::argument(format!("`{name}` is null"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::ReadFile { .. } => EdgeVitStatus::File,
            Error::Picture(_)
            | Error::PictureTooLarge { .. }
            | Error::EmptyPicture { .. }
            | Error::DamagedJpeg { .. }
            | Error::FrameBytes { .. }
            | Error::FrameStride { .. }
            | Error::FrameTooLarge { .. }
            | Error::OddFrame { .. } => EdgeVitStatus::Picture,
            Error::Run { .. } | Error::NonFinite { .. } => EdgeVitStatus::Run,
            _ => EdgeVitStatus::Model,
        };
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            message = format!("{message}: {error}");
            source = error.source();
        }
        Self { status, message }
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Runs the body of a call: keeps a failure's message for `edge_vit_last_error`, and lets no panic out.
pub(super) fn answer(body: impl FnOnce() -> Result<(), Failure>) -> EdgeVitStatus {
    // What a panic leaves half done is the buffers of a handle, and each picture overwrites them.
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return EdgeVitStatus::Ok,
        Ok(Err(failure)) => failure,
        Err(_) => Failure::new(EdgeVitStatus::Internal, "a mistake of the library; please report it".to_owned()),
    };
    // A message quotes names out of files, and those may hold anything.
    let message = CString::new(failure.message.replace('\0', " ")).unwrap_or_default();
    // A thread that is ending has no place for it any more.
    let _ = LAST.try_with(|last| last.replace(message));
    failure.status
}

/// What went wrong in this thread's last call that failed, UTF-8 and ended by a zero byte; empty if none did. Valid
/// until this thread's next call that fails.
#[unsafe(no_mangle)]
pub extern "C" fn edge_vit_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}
