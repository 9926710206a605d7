//! The header of a `.npy` array, NumPy's format 1 to 3: magic, version, length, and the text of a Python dictionary with
//! the type, the order and the shape. NumPy writes the three keys, in this order, since its first version.

/// What a header says, and the values behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Array<'a> {
    /// Byte order, kind and width, such as `<f4`.
    pub(super) descr: &'a str,
    /// Whether the first dimension is contiguous, and not the last.
    pub(super) fortran_order: bool,
    pub(super) shape: Vec<usize>,
    pub(super) data: &'a [u8],
}

impl<'a> Array<'a> {
    /// Takes the array apart; `None` where it is none, or one of records.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(b"\x93NUMPY")?;
        let (len, rest) = match *rest {
            [1, _, a, b, ref rest @ ..] => (usize::from(u16::from_le_bytes([a, b])), rest),
            [2 | 3, _, a, b, c, d, ref rest @ ..] => (usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?, rest),
            _ => return None,
        };
        let (header, data) = rest.split_at_checked(len)?;
        let header = std::str::from_utf8(header).ok()?.trim().strip_prefix('{')?.strip_suffix('}')?;

        let (descr, header) = after(header, "descr")?.strip_prefix('\'')?.split_once('\'')?;
        let header = after(header, "fortran_order")?;
        let (fortran_order, header) = match header.strip_prefix("True") {
            Some(rest) => (true, rest),
            None => (false, header.strip_prefix("False")?),
        };
        let (dims, _) = after(header, "shape")?.strip_prefix('(')?.split_once(')')?;
        let dims = dims.split(',').map(str::trim).filter(|dim| !dim.is_empty());
        let shape = dims.map(|dim| dim.parse().ok()).collect::<Option<_>>()?;
        Some(Self { descr, fortran_order, shape, data })
    }
}

/// What stands behind `'key':`, which comes next.
fn after<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let rest = header.trim_start().trim_start_matches(',').trim_start();
    let rest = rest.strip_prefix('\'')?.strip_prefix(key)?.strip_prefix('\'')?;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_all_versions_are_read() {
        let header = b"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }  \n";
        for version in 1..=3u8 {
            let mut bytes = b"\x93NUMPY".to_vec();
            bytes.extend([version, 0]);
            match version {
                1 => bytes.extend((header.len() as u16).to_le_bytes()),
                _ => bytes.extend((header.len() as u32).to_le_bytes()),
            }
            bytes.extend(header);
            bytes.extend([1, 2]);
            let expected = Array { descr: "<f4", fortran_order: true, shape: vec![2, 3], data: &[1, 2] };
            assert_eq!(Array::parse(&bytes), Some(expected), "version {version}");
            assert!((0..bytes.len() - 2).all(|len| Array::parse(&bytes[..len]).is_none()), "version {version}");
        }
    }
}
