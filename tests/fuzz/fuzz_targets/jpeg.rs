//! Frames as cameras send them: JPEG, with the decoder's buffers kept from one to the next. POST /classify takes the
//! same way.
#![no_main]

use std::cell::RefCell;

use edge_vit::frame::Decoder;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static DECODER: RefCell<Decoder> = RefCell::default();
}

fuzz_target!(|bytes: &[u8]| {
    DECODER.with_borrow_mut(|decoder| {
        if let Ok(frame) = decoder.decode(bytes) {
            assert!(!frame.is_empty());
            frame.row(frame.height() - 1, &mut vec![0; 3 * frame.width() as usize]);
        }
    });
});
