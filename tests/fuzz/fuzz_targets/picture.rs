//! Picture files of any format, as they come from a disk or over HTTP.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(picture) = edge_vit::decode_picture(bytes) {
        assert!(picture.width() > 0 && picture.height() > 0);
    }
});
