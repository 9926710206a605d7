//! Raw frames of any announced layout.
#![no_main]

use edge_vit::frame::{FrameLayout, Matrix, PixelFormat, Range};
use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;

#[derive(Debug)]
struct Input {
    layout: FrameLayout,
    bytes: Vec<u8>,
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(from: &mut Unstructured<'a>) -> Result<Self> {
        use PixelFormat::{Bgr, Grey, I420, Nv12, Rgb, Yuyv};
        let layout = FrameLayout {
            format: *from.choose(&[Rgb, Bgr, Grey, Yuyv, Nv12, I420])?,
            width: from.arbitrary()?,
            height: from.arbitrary()?,
            stride: from.arbitrary()?,
            range: *from.choose(&[Range::Limited, Range::Full])?,
            matrix: *from.choose(&[Matrix::Bt601, Matrix::Bt709])?,
        };
        Ok(Self { layout, bytes: from.bytes(from.len())?.to_vec() })
    }
}

fuzz_target!(|input: Input| {
    if let Ok(frame) = input.layout.frame(&input.bytes) {
        let mut row = vec![0; 3 * frame.width() as usize];
        for y in 0..=frame.height() {
            frame.row(y, &mut row);
        }
    }
});
