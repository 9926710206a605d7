//! What a JPEG says of itself, read before anything is decoded or allocated (ITU-T T.81, Annex B).
//!
//! Frames of cameras come cut, empty and corrupted, and decoders are made to show something of every file. Here a
//! picture is whole or it is refused.

use crate::Error;

/// Start of image.
pub(crate) const SOI: u8 = 0xd8;
/// End of image.
pub(crate) const EOI: u8 = 0xd9;
/// Start of scan.
pub(crate) const SOS: u8 = 0xda;
const DHT: u8 = 0xc4;

/// What was found in a whole JPEG.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) width: u32,
    pub(super) height: u32,
    /// 1 is grey, 3 is colour, 4 is of print.
    pub(super) components: u8,
    /// Bytes up to and including the end of the picture. Cameras fill the rest of their buffer with anything.
    pub(super) end: usize,
    /// Whether there is a Huffman table.
    pub(super) has_tables: bool,
    /// Whether all data are one scan of a sequential picture, as every camera sends it.
    pub(super) one_scan: bool,
}

/// Whether `bytes` begin as a JPEG does.
pub(super) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, SOI])
}

impl Outline {
    /// Walks the markers of a JPEG from its start to its end.
    ///
    /// # Errors
    /// [`Error::DamagedJpeg`] if the end is absent, or what is between cannot be a picture.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader { bytes, at: 2 };
        let mut frame = None;
        let (mut has_tables, mut scanned, mut scans, mut sequential) = (false, 0, 0, false);
        loop {
            match reader.marker()? {
                EOI => break,
                SOS => {
                    if frame.is_none() {
                        return damaged("its data begins before its size is told");
                    }
                    reader.segment()?;
                    scanned += reader.scan()?;
                    scans += 1;
                }
                DHT => {
                    has_tables = true;
                    reader.segment()?;
                }
                // Frames of any process but the two that are not of this kind (DHT, and JPG and DAC without pixels).
                marker @ 0xc0..=0xcf => {
                    frame = Some(size(reader.segment()?)?);
                    sequential = marker <= 0xc1;
                }
                0xdb..=0xfe => drop(reader.segment()?),
                marker => return damaged(&format!("it holds the marker ff{marker:02x} where none can be")),
            }
        }
        let Some((width, height, components)) = frame.filter(|_| scanned > 0) else {
            return damaged("it holds no picture");
        };
        // Each block of 8x8 pixels takes one bit at the very least: nobody is made to allocate much by a few bytes.
        let blocks = u64::from(width.div_ceil(8)) * u64::from(height.div_ceil(8));
        if blocks > 8 * scanned as u64 {
            return damaged(&format!("{scanned} bytes of data are no picture of {width}x{height}"));
        }
        let one_scan = sequential && scans == 1;
        Ok(Self { width, height, components, end: reader.at, has_tables, one_scan })
    }
}

/// Writes the JPEG `from`, which has no Huffman tables, with the standard ones into `to`. They are what a camera's frames
/// without any are made with.
pub(super) fn with_standard_tables(from: &[u8], to: &mut Vec<u8>) {
    to.clear();
    to.extend([0xff, SOI, 0xff, DHT]);
    let length: usize =
        2 + STANDARD_TABLES.iter().map(|(_, lengths, values)| 1 + lengths.len() + values.len()).sum::<usize>();
    to.extend((length as u16).to_be_bytes());
    for (class, lengths, values) in STANDARD_TABLES {
        to.push(class);
        to.extend(lengths);
        to.extend(values);
    }
    to.extend(&from[2.min(from.len())..]);
}

/// A place in the bytes of a JPEG.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, Error> {
        let Some(&byte) = self.bytes.get(self.at) else {
            return damaged(&format!("it is cut short after {} bytes", self.bytes.len()));
        };
        self.at += 1;
        Ok(byte)
    }

    /// The next marker, without the bytes 0xff before it.
    fn marker(&mut self) -> Result<u8, Error> {
        if self.byte()? != 0xff {
            return damaged(&format!("there is no marker at byte {}", self.at - 1));
        }
        loop {
            match self.byte()? {
                0xff => {}
                marker => return Ok(marker),
            }
        }
    }

    /// The segment that follows a marker, without its length.
    fn segment(&mut self) -> Result<&'a [u8], Error> {
        let length = usize::from(u16::from_be_bytes([self.byte()?, self.byte()?]));
        let Some(rest) = length.checked_sub(2) else {
            return damaged(&format!("a segment announces {length} bytes with its length"));
        };
        let segment = self.bytes.get(self.at..self.at + rest);
        self.at = self.bytes.len().min(self.at + rest);
        match segment {
            Some(segment) => Ok(segment),
            None => damaged(&format!("it is cut short after {} bytes", self.bytes.len())),
        }
    }

    /// Passes over the data of a scan to the marker after it; gives the bytes of data. Restart markers count from 0 to
    /// 7 over and over: a gap is a lost piece.
    fn scan(&mut self) -> Result<usize, Error> {
        let (start, mut restart) = (self.at, 0);
        loop {
            let left = self.bytes.get(self.at..).unwrap_or_default();
            let Some(found) = left.iter().position(|&byte| byte == 0xff) else {
                return damaged(&format!("it is cut short after {} bytes", self.bytes.len()));
            };
            self.at += found + 1;
            match self.byte()? {
                0x00 => {}
                // A fill byte; the marker is still to come.
                0xff => self.at -= 1,
                marker @ 0xd0..=0xd7 => {
                    if marker != 0xd0 + restart {
                        return damaged("a piece of its data is lost");
                    }
                    restart = (restart + 1) % 8;
                }
                _ => {
                    self.at -= 2;
                    return Ok(self.at - start);
                }
            }
        }
    }
}

/// Width, height and components that the segment of a frame's header tells.
fn size(segment: &[u8]) -> Result<(u32, u32, u8), Error> {
    let &[_, h1, h0, w1, w0, components, ..] = segment else { return damaged("its header is too short") };
    let [width, height] = [[w1, w0], [h1, h0]].map(|side| u32::from(u16::from_be_bytes(side)));
    if width == 0 || height == 0 {
        return Err(Error::EmptyPicture { width, height });
    }
    Ok((width, height, components))
}

fn damaged<T>(reason: &str) -> Result<T, Error> {
    Err(Error::DamagedJpeg { reason: reason.to_owned() })
}

/// A Huffman table: class and number, how many codes there are of each length from 1 to 16, and their values.
type Table = (u8, [u8; 16], &'static [u8]);

/// The tables K.3 to K.6 of ITU-T T.81, Annex K.3: DC and AC, of luma and chroma.
#[rustfmt::skip]
const STANDARD_TABLES: [Table; 4] = [
    (0x00, [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], &[
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b,
    ]),
    (0x01, [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], &[
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b,
    ]),
    (0x10, [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125], &[
        0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
        0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72,
        0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37,
        0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
        0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83,
        0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3,
        0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
        0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
        0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
    ]),
    (0x11, [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119], &[
        0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22,
        0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1,
        0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36,
        0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
        0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a,
        0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a,
        0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
        0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
        0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
    ]),
];

#[cfg(test)]
mod tests {
    use image::codecs::jpeg::JpegEncoder;
    use image::{Rgb, RgbImage};

    use super::*;

    fn jpeg() -> Vec<u8> {
        let picture = RgbImage::from_fn(40, 24, |x, y| Rgb([(x * 6) as u8, (y * 10) as u8, (x * y) as u8]));
        let mut bytes = Vec::new();
        JpegEncoder::new(&mut bytes).encode_image(&picture).unwrap();
        bytes
    }

    fn reason(bytes: &[u8]) -> String {
        match Outline::read(bytes).unwrap_err() {
            Error::DamagedJpeg { reason } => reason,
            error => panic!("{error}"),
        }
    }

    #[test]
    fn a_whole_picture_is_described() {
        let bytes = jpeg();
        let outline =
            Outline { width: 40, height: 24, components: 3, end: bytes.len(), has_tables: true, one_scan: true };
        assert_eq!(Outline::read(&bytes).unwrap(), outline);
        // What a camera leaves behind the end is not looked at.
        assert_eq!(Outline::read(&[&bytes[..], &[0; 99]].concat()).unwrap(), outline);
        assert_eq!(Outline::read(&[&bytes[..], b"leftover\xff\xff\xff"].concat()).unwrap(), outline);
    }

    #[test]
    fn a_picture_is_whole_or_refused() {
        let bytes = jpeg();
        for length in 2..bytes.len() {
            assert!(reason(&bytes[..length]).contains("cut short"), "{length}");
        }
        assert!(reason(&[&bytes[..bytes.len() - 99], &[0; 999]].concat()).contains("cut short"));
        assert!(reason(&[0xff, SOI, 0xff, EOI]).contains("no picture"));
        assert!(reason(&[0xff, SOI, 0xff, 0xff, 0xff, EOI]).contains("no picture"));
        assert!(reason(b"\xff\xd8garbage").contains("no marker"));
        assert!(reason(&[0xff, SOI, 0xff, 0xe0, 0, 1]).contains("announces 1"));
        assert!(reason(&[0xff, SOI, 0xff, 0x42]).contains("ff42"));
        assert!(reason(&[0xff, SOI, 0xff, SOS, 0, 2, 0xff, EOI]).contains("before its size"));
    }

    #[test]
    fn restart_markers_have_to_follow_each_other() {
        let header = [0xff, SOI, 0xff, 0xc0, 0, 8, 8, 0, 8, 0, 8, 1, 0xff, SOS, 0, 2];
        let scan = |data: &[u8]| [&header[..], data, &[0xff, EOI]].concat();
        let outline = Outline::read(&scan(&[1, 0xff, 0, 2, 0xff, 0xd0, 3, 0xff, 0xff, 0xd1, 4])).unwrap();
        assert_eq!((outline.width, outline.height, outline.components, outline.has_tables), (8, 8, 1, false));
        assert!(reason(&scan(&[1, 0xff, 0xd1, 3])).contains("lost"));
        assert!(reason(&scan(&[1, 0xff, 0xd0, 3, 0xff, 0xd0, 3])).contains("lost"));
    }

    #[test]
    fn a_few_bytes_announce_no_great_picture() {
        let mut bytes = jpeg();
        let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        bytes[frame + 5..frame + 9].copy_from_slice(&[0xc3, 0x50, 0xc3, 0x50]);
        assert!(reason(&bytes).contains("50000x50000"), "{}", reason(&bytes));
        bytes[frame + 5..frame + 7].copy_from_slice(&[0, 0]);
        assert!(matches!(Outline::read(&bytes), Err(Error::EmptyPicture { height: 0, .. })));
    }

    #[test]
    fn damaged_bytes_never_panic() {
        let whole = jpeg();
        for at in 0..whole.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                let _ = Outline::read(&bytes);
            }
        }
        let _ = (Outline::read(&[]), Outline::read(&[0xff]));
    }
}
