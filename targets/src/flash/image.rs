//! A copy of an image, unpacked.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, Write};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::FlashError;

const XZ: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZIP: [u8; 4] = *b"PK\x03\x04";

/// Copies `image` to `copy`, which becomes `out`; how it is packed shows in its first bytes. Returns the copy's size in bytes.
pub(super) fn copy(image: &Path, copy: &mut File, out: &Path) -> Result<u64, FlashError> {
    let read_failed = |source| FlashError::Read { path: image.to_owned(), source };
    let write_failed = |source| FlashError::Write { path: out.to_owned(), source };
    let packed = |reason: String| FlashError::Packed { path: image.to_owned(), reason };
    let mut file = File::open(image).map_err(read_failed)?;
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(XZ.len() as u64).read_to_end(&mut head).map_err(read_failed)?;
    file.rewind().map_err(read_failed)?;

    let mut to = BufWriter::with_capacity(1 << 20, &mut *copy);
    if head.starts_with(&XZ) {
        lzma_rs::xz_decompress(&mut BufReader::new(file), &mut to).map_err(|error| packed(format!("{error:?}")))?;
    } else if head.starts_with(&GZIP) {
        io::copy(&mut MultiGzDecoder::new(BufReader::new(file)), &mut to).map_err(|error| packed(error.to_string()))?;
    } else if head.starts_with(&ZIP) {
        return Err(packed("it is a zip archive: unpack it first".to_owned()));
    } else {
        io::copy(&mut file, &mut to).map_err(write_failed)?;
    }
    to.flush().map_err(write_failed)?;
    drop(to);
    copy.metadata().map(|metadata| metadata.len()).map_err(write_failed)
}
