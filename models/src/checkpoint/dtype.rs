//! Bytes of floats of any width, little endian, as float32.

use half::f16;

/// The floating-point types that weights come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Float {
    F16,
    Bf16,
    F32,
    F64,
}

impl Float {
    /// The values in `bytes`, or `None` where their number is not that of whole values.
    pub(super) fn decode(self, bytes: &[u8]) -> Option<Vec<f32>> {
        match self {
            Self::F16 => decode(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => decode(bytes, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
            Self::F32 => decode(bytes, f32::from_le_bytes),
            Self::F64 => decode(bytes, |b| f64::from_le_bytes(b) as f32),
        }
    }
}

fn decode<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Option<Vec<f32>> {
    let (values, rest) = bytes.as_chunks::<N>();
    rest.is_empty().then(|| values.iter().map(|&bytes| value(bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_gives_the_value_it_stands_for() {
        assert_eq!(Float::F32.decode(&(-1.5f32).to_le_bytes()).unwrap(), [-1.5]);
        assert_eq!(Float::F64.decode(&0.25f64.to_le_bytes()).unwrap(), [0.25]);
        assert_eq!(Float::Bf16.decode(&0xc040u16.to_le_bytes()).unwrap(), [-3.0]);
        let halves: [(u16, f32); 6] = [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x0400, 6.103_515_6e-5),
            (0x7c00, f32::INFINITY),
        ];
        for (bits, value) in halves {
            assert_eq!(Float::F16.decode(&bits.to_le_bytes()).unwrap(), [value], "{bits:#06x}");
        }
        assert!(Float::F16.decode(&0x7e00u16.to_le_bytes()).unwrap()[0].is_nan());
    }

    #[test]
    fn a_part_of_a_value_is_refused() {
        assert_eq!(Float::F32.decode(&[0; 7]), None);
    }
}
