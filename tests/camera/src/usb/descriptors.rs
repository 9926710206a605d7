//! What the camera says it is: the descriptors of USB 2.0 chapter 9 and of UVC 3.

use super::{Format, Mode};

/// The interface that cameras are controlled through.
const CONTROL_INTERFACE: u8 = 0;
/// The interface that frames come through.
pub(super) const STREAMING_INTERFACE: u8 = 1;
/// The endpoint of the frames: number 1, towards the host.
pub(super) const ENDPOINT: u8 = 0x81;
/// The largest packet of a bulk endpoint at high speed (USB 2.0, 5.8.3).
const PACKET: u16 = 512;

/// Class of video interfaces (UVC A.1).
const CC_VIDEO: u8 = 0x0e;
/// A class-specific descriptor of an interface (UVC A.4).
const CS_INTERFACE: u8 = 0x24;
/// The version of the class, 1.1, in binary-coded decimals.
const UVC_VERSION: u16 = 0x0110;

/// Terminal types of UVC B: a camera's sensor, and the USB.
const ITT_CAMERA: u16 = 0x0201;
const TT_STREAMING: u16 = 0x0101;
const CAMERA_TERMINAL: u8 = 1;
const USB_TERMINAL: u8 = 2;

/// The device descriptor (USB 2.0, 9.6.1) with the class triple that says "see the interface association".
pub(super) fn device() -> Vec<u8> {
    let (vendor, product, release) = (0x1d6b_u16, 0x0102_u16, 0x0100_u16);
    Bytes::default()
        .u8s(&[1])
        .u16(0x0200)
        .u8s(&[0xef, 2, 1, 64])
        .u16(vendor)
        .u16(product)
        .u16(release)
        .u8s(&[1, 2, 3, 1])
        .with_length()
}

/// The device qualifier (USB 2.0, 9.6.2): what the device would be at the other speed.
pub(super) fn qualifier() -> Vec<u8> {
    Bytes::default().u8s(&[6]).u16(0x0200).u8s(&[0xef, 2, 1, 64, 1, 0]).with_length()
}

/// String descriptor `index` (USB 2.0, 9.6.7): the languages, maker, product and serial number.
pub(super) fn string(index: u8) -> Option<Vec<u8>> {
    let text = match index {
        0 => return Some(Bytes::default().u8s(&[3]).u16(0x0409).with_length()),
        1 => "edge-vit",
        2 => "Emulated Camera",
        3 => "0001",
        _ => return None,
    };
    Some(text.encode_utf16().fold(Bytes::default().u8s(&[3]), Bytes::u16).with_length())
}

/// The configuration (USB 2.0, 9.6.3) with all that belongs to it: the association of both interfaces (UVC 3.6), the
/// control interface (UVC 3.7), the streaming interface (UVC 3.9) with one format a mode, and the endpoint.
pub(super) fn configuration(modes: &[Mode]) -> Vec<u8> {
    let association = Bytes::default().u8s(&[0x0b, CONTROL_INTERFACE, 2, CC_VIDEO, 3, 0, 2]).with_length();
    let endpoint = Bytes::default().u8s(&[5, ENDPOINT, 2]).u16(PACKET).u8s(&[0]).with_length();
    let parts = [
        association,
        interface(CONTROL_INTERFACE, 0, 1),
        control(),
        interface(STREAMING_INTERFACE, 1, 2),
        streaming(modes),
        endpoint,
    ]
    .concat();
    let header = Bytes::default().u8s(&[2]).u16(9 + parts.len() as u16).u8s(&[2, 1, 0, 0x80, 250]).with_length();
    [header, parts].concat()
}

/// A standard interface descriptor (USB 2.0, 9.6.5) of a video subclass.
fn interface(number: u8, endpoints: u8, subclass: u8) -> Vec<u8> {
    Bytes::default().u8s(&[4, number, 0, endpoints, CC_VIDEO, subclass, 0, 2]).with_length()
}

/// The class-specific part of the control interface (UVC 3.7.2): a camera terminal without controls (3.7.2.3) and the
/// output terminal to the USB (3.7.2.2).
fn control() -> Vec<u8> {
    let camera = Bytes::default()
        .u8s(&[CS_INTERFACE, 2, CAMERA_TERMINAL])
        .u16(ITT_CAMERA)
        .u8s(&[0, 0])
        .u8s(&[0; 6])
        .u8s(&[3, 0, 0, 0])
        .with_length();
    let usb = Bytes::default()
        .u8s(&[CS_INTERFACE, 3, USB_TERMINAL])
        .u16(TT_STREAMING)
        .u8s(&[0, CAMERA_TERMINAL, 0])
        .with_length();
    let units = [camera, usb].concat();
    let header = Bytes::default()
        .u8s(&[CS_INTERFACE, 1])
        .u16(UVC_VERSION)
        .u16(13 + units.len() as u16)
        .u32(48_000_000)
        .u8s(&[1, STREAMING_INTERFACE])
        .with_length();
    [header, units].concat()
}

/// The class-specific part of the streaming interface: the input header (UVC 3.9.2.1) and the formats.
fn streaming(modes: &[Mode]) -> Vec<u8> {
    let formats: Vec<u8> = (1..).zip(modes).flat_map(|(index, mode)| format(index, mode)).collect();
    let header_length = 13 + modes.len() as u16;
    let header = Bytes::default()
        .u8s(&[CS_INTERFACE, 1, modes.len() as u8])
        .u16(header_length + formats.len() as u16)
        .u8s(&[ENDPOINT, 0, USB_TERMINAL, 0, 0, 0, 1])
        .u8s(&vec![0; modes.len()])
        .with_length();
    [header, formats].concat()
}

/// A format with its one frame size, and its colours: sRGB's primaries and curve, the matrix of BT.601 (UVC 3.9.2.6).
///
/// JPEG after "MJPEG Payload" 3.1, the others after "Uncompressed Payload" 3.1.
fn format(index: u8, mode: &Mode) -> Vec<u8> {
    let (format, frame_subtype) = match mode.format.guid() {
        None => (Bytes::default().u8s(&[CS_INTERFACE, 6, index, 1, 1, 1, 0, 0, 0, 0]), 7),
        Some(guid) => {
            let bits = mode.format.bits_per_pixel();
            (Bytes::default().u8s(&[CS_INTERFACE, 4, index, 1]).u8s(&guid).u8s(&[bits, 1, 0, 0, 0, 0]), 5)
        }
    };
    let size = mode.frame_size();
    let bit_rate = size * 8 * mode.rate;
    let frame = Bytes::default()
        .u8s(&[CS_INTERFACE, frame_subtype, 1, 0])
        .u16(mode.width)
        .u16(mode.height)
        .u32(bit_rate)
        .u32(bit_rate)
        .u32(size)
        .u32(mode.interval())
        .u8s(&[1])
        .u32(mode.interval())
        .with_length();
    let colours = Bytes::default().u8s(&[CS_INTERFACE, 13, 1, 1, 4]).with_length();
    [format.with_length(), frame, colours].concat()
}

impl Format {
    /// The identifier of a raw format: its four letters before the tail that all of them share ("Uncompressed
    /// Payload" 2.1). JPEG has a descriptor of its own instead.
    fn guid(self) -> Option<[u8; 16]> {
        let letters = match self {
            Self::Mjpeg => return None,
            Self::Yuyv => b"YUY2",
            Self::Nv12 => b"NV12",
            Self::Grey => b"Y800",
        };
        let mut guid = *b"....\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71";
        guid[..4].copy_from_slice(letters);
        Some(guid)
    }
}

/// The fields of a descriptor behind its length, little-endian.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u8s(mut self, values: &[u8]) -> Self {
        self.0.extend(values);
        self
    }

    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// The descriptor, its length before it.
    fn with_length(self) -> Vec<u8> {
        let mut bytes = vec![self.0.len() as u8 + 1];
        bytes.extend(self.0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(format: Format) -> Mode {
        Mode { format, width: 640, height: 480, rate: 10, frames: Vec::new() }
    }

    /// Lengths lead from each descriptor to the next up to the end, and the totals that headers give are right.
    #[test]
    fn the_configuration_is_a_chain_of_descriptors() {
        let bytes = configuration(&[Format::Mjpeg, Format::Yuyv, Format::Nv12, Format::Grey].map(mode));
        assert_eq!(usize::from(u16::from_le_bytes([bytes[2], bytes[3]])), bytes.len());
        let mut chain = Vec::new();
        let mut rest = &bytes[..];
        while let [length, kind, ..] = *rest {
            let (descriptor, behind) = rest.split_at(usize::from(length));
            chain.push((kind, descriptor[2], rest.len()));
            rest = behind;
        }
        assert!(rest.is_empty());
        let specific =
            |subtype| chain.iter().filter(move |&&(kind, found, _)| (kind, found) == (CS_INTERFACE, subtype));
        assert_eq!(specific(13).count(), 4, "one set of colours a format");
        // The streaming header is the second of subtype 1; only the endpoint (7 bytes) lies behind what it spans.
        let &(_, _, from) = specific(1).nth(1).unwrap();
        let header = &bytes[bytes.len() - from..];
        assert_eq!(usize::from(u16::from_le_bytes([header[4], header[5]])), from - 7);
    }

    #[test]
    fn strings_are_utf_16() {
        assert_eq!(string(3).unwrap(), [10, 3, b'0', 0, b'0', 0, b'0', 0, b'1', 0]);
        assert_eq!(string(9), None);
        assert_eq!(device().len(), 18);
        assert_eq!(qualifier().len(), 10);
    }
}
