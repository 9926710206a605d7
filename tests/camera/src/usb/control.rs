//! What the camera answers on endpoint 0: the standard requests of USB 2.0 chapter 9.4, and the negotiation of a
//! stream by UVC 4.3.1.1.

use std::sync::Arc;

use super::Mode;
use super::descriptors::{self, STREAMING_INTERFACE};

/// Bytes of a transfer of frames, its header included: one URB of `uvcvideo` (32 packets of 512 bytes).
pub(super) const PAYLOAD: u32 = 16_384;

/// Length of the structure that is negotiated, in UVC 1.1 (Table 4-47).
const PROBE_LENGTH: usize = 34;
/// Selectors of the negotiation (UVC A.9.7): a try, and the choice.
const VS_COMMIT_CONTROL: u8 = 2;

/// Class-specific requests (UVC A.8).
const SET_CUR: u8 = 0x01;
const GET_CUR: u8 = 0x81;
const GET_MIN: u8 = 0x82;
const GET_MAX: u8 = 0x83;
const GET_LEN: u8 = 0x85;
const GET_INFO: u8 = 0x86;
const GET_DEF: u8 = 0x87;

/// The eight bytes that begin a control transfer (USB 2.0, 9.3).
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    kind: u8,
    request: u8,
    value: u16,
    index: u16,
    length: u16,
}

impl Setup {
    pub(super) fn parse(bytes: [u8; 8]) -> Self {
        let [kind, request, value0, value1, index0, index1, length0, length1] = bytes;
        let pair = |low, high| u16::from_le_bytes([low, high]);
        Self { kind, request, value: pair(value0, value1), index: pair(index0, index1), length: pair(length0, length1) }
    }
}

/// The state of endpoint 0.
pub(super) struct Control {
    modes: Vec<Mode>,
    /// The mode of the negotiation, an index of `modes`.
    probed: usize,
    /// The mode that was chosen.
    committed: usize,
}

impl Control {
    pub(super) fn new(modes: Vec<Mode>) -> Self {
        Self { modes, probed: 0, committed: 0 }
    }

    /// The mode that the host chose last; the first if it has not.
    pub(super) fn committed(&self) -> &Mode {
        &self.modes[self.committed]
    }

    /// Sends `frames` from now on, in every mode.
    pub(super) fn show(&mut self, frames: &[Arc<[u8]>]) {
        for mode in &mut self.modes {
            mode.frames = frames.to_vec();
        }
    }

    /// The data that answers `setup`, no more than was asked for; nothing if the request is refused (a stall of the
    /// endpoint). `sent` is the data that came with a request towards the device.
    pub(super) fn answer(&mut self, setup: Setup, sent: &[u8]) -> Option<Vec<u8>> {
        let mut data = match setup.kind {
            0x80..=0x82 => self.standard(setup)?,
            0x21 | 0xa1 if setup.index.to_le_bytes()[0] == STREAMING_INTERFACE => self.negotiate(setup, sent)?,
            // Standard requests without data: an address, a configuration, an alternate setting, a cleared halt.
            0x00..=0x02 => Vec::new(),
            _ => return None,
        };
        data.truncate(usize::from(setup.length));
        Some(data)
    }

    fn standard(&self, setup: Setup) -> Option<Vec<u8>> {
        let [index, kind] = setup.value.to_le_bytes();
        match setup.request {
            0 => Some(vec![0, 0]),
            6 => match kind {
                1 => Some(descriptors::device()),
                2 => Some(descriptors::configuration(&self.modes)),
                3 => descriptors::string(index),
                6 => Some(descriptors::qualifier()),
                _ => None,
            },
            8 => Some(vec![1]),
            10 => Some(vec![0]),
            _ => None,
        }
    }

    fn negotiate(&mut self, setup: Setup, sent: &[u8]) -> Option<Vec<u8>> {
        let selector = setup.value.to_le_bytes()[1];
        match setup.request {
            SET_CUR => {
                // Formats count from 1; the one frame size and rate of each leaves nothing else to choose.
                let wished = usize::from(*sent.get(2)?);
                self.probed = wished.clamp(1, self.modes.len()) - 1;
                if selector == VS_COMMIT_CONTROL {
                    self.committed = self.probed;
                }
                Some(Vec::new())
            }
            GET_CUR | GET_MIN | GET_MAX | GET_DEF => Some(self.probe()),
            GET_LEN => Some((PROBE_LENGTH as u16).to_le_bytes().to_vec()),
            GET_INFO => Some(vec![0b11]),
            _ => None,
        }
    }

    /// The structure that is negotiated (UVC Table 4-47), for the mode that is tried.
    fn probe(&self) -> Vec<u8> {
        let mode = &self.modes[self.probed];
        let mut probe = [0; PROBE_LENGTH];
        probe[2] = self.probed as u8 + 1;
        probe[3] = 1;
        probe[4..8].copy_from_slice(&mode.interval().to_le_bytes());
        probe[18..22].copy_from_slice(&mode.frame_size().to_le_bytes());
        probe[22..26].copy_from_slice(&PAYLOAD.to_le_bytes());
        probe.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;

    fn camera() -> Control {
        let mode = |format| Mode { format, width: 320, height: 240, rate: 10, frames: Vec::new() };
        Control::new(vec![mode(Format::Mjpeg), mode(Format::Nv12)])
    }

    fn setup(kind: u8, request: u8, value: u16, length: u16) -> Setup {
        Setup { kind, request, value, index: u16::from(STREAMING_INTERFACE), length }
    }

    #[test]
    fn a_try_is_answered_and_only_the_choice_counts() {
        let mut camera = camera();
        let mut wish = [0; PROBE_LENGTH];
        wish[2] = 2;
        assert_eq!(camera.answer(setup(0x21, SET_CUR, 0x0100, 34), &wish), Some(vec![]));
        let probe = camera.answer(setup(0xa1, GET_CUR, 0x0100, 34), &[]).unwrap();
        assert_eq!(probe[2..8], [2, 1, 0x40, 0x42, 0x0f, 0], "second format, 1,000,000 units of 100 ns");
        assert_eq!(probe[18..22], (320 * 240 * 3 / 2_u32).to_le_bytes());
        assert_eq!(camera.committed().format, Format::Mjpeg);
        camera.answer(setup(0x21, SET_CUR, 0x0200, 34), &wish);
        assert_eq!(camera.committed().format, Format::Nv12);
    }

    #[test]
    fn no_more_is_sent_than_was_asked_for_and_what_is_unknown_is_refused() {
        let mut camera = camera();
        assert_eq!(camera.answer(setup(0x80, 6, 0x0200, 9), &[]).unwrap().len(), 9);
        assert_eq!(camera.answer(setup(0x80, 6, 0x0f00, 9), &[]), None);
        assert_eq!(camera.answer(setup(0xa1, 0x99, 0x0100, 9), &[]), None);
        assert_eq!(camera.answer(setup(0x21, SET_CUR, 0x0100, 0), &[]), None);
    }
}
