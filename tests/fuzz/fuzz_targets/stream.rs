//! What a child process or the standard input sends: MJPEG, YUV4MPEG2 and raw frames.
#![no_main]

use edge_vit::capture::sources::{FrameReader, PipeFormat, StreamError};
use libfuzzer_sys::fuzz_target;

const FORMATS: [&str; 4] = ["mjpeg", "y4m", "i420:16x16", "rgb:5x3"];

fuzz_target!(|bytes: &[u8]| {
    let Some((&format, stream)) = bytes.split_first() else { return };
    let Ok(format) = FORMATS[usize::from(format) % FORMATS.len()].parse::<PipeFormat>() else { return };
    let Ok(mut reader) = FrameReader::new(stream, format) else { return };
    loop {
        match reader.next_frame() {
            Ok(Some(_)) | Err(StreamError::Damaged(_)) => (),
            Ok(None) | Err(_) => return,
        }
    }
});
