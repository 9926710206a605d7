//! NumPy archives: a zip of `.npy` arrays.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use zip::ZipArchive;

use super::CheckpointError;
use super::dtype::Float;
use super::npy::Array;
use crate::Tensor;

/// The most bytes that the arrays of an archive may hold together: no vision backbone has as many, and a small file can
/// claim any number.
const MAX_BYTES: u64 = 16 << 30;

pub(super) fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    let mut left = MAX_BYTES;
    let mut tensors = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index)?;
        let Some(name) = entry.name()?.strip_suffix(".npy").map(str::to_owned) else { continue };
        let mut array = Vec::new();
        // By what comes, not by what the entry says of itself.
        entry.take(left + 1).read_to_end(&mut array).map_err(|error| values(&name, &error))?;
        left = left.checked_sub(array.len() as u64).ok_or_else(|| {
            values(&name, &format!("the arrays before and this one take more than {} GiB", MAX_BYTES >> 30))
        })?;
        if let Some(tensor) = tensor(&name, &array)? {
            tensors.insert(name, tensor);
        }
    }
    Ok(tensors)
}

/// The array; nothing where it holds whole numbers, which are counters.
fn tensor(name: &str, bytes: &[u8]) -> Result<Option<Tensor>, CheckpointError> {
    let array = Array::parse(bytes).ok_or_else(|| values(name, &"expected an array as numpy.save writes it"))?;
    let float = match array.descr {
        "<f2" => Float::F16,
        "<f4" => Float::F32,
        "<f8" => Float::F64,
        whole if whole.get(1..2).is_some_and(|kind| "iub".contains(kind)) => return Ok(None),
        other => return Err(CheckpointError::Dtype { name: name.to_owned(), got: format!("`{other}`") }),
    };
    let Array { shape, data, .. } = array;
    let decoded = float
        .decode(data)
        .ok_or_else(|| values(name, &format!("{} bytes are no whole number of values", data.len())))?;
    let made = if array.fortran_order {
        // The array of the reversed shape, turned over.
        let axes: Vec<usize> = (0..shape.len()).rev().collect();
        let reversed: Vec<usize> = shape.into_iter().rev().collect();
        Tensor::new(reversed, decoded).map(|tensor| tensor.permuted(&axes))
    } else {
        Tensor::new(shape, decoded)
    };
    made.map(Some).map_err(|error| CheckpointError::values(name, &error))
}

fn values(name: &str, reason: &dyn std::fmt::Display) -> CheckpointError {
    CheckpointError::Values { name: name.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::checkpoint::Checkpoint;

    /// An array as `numpy.save` writes it, version 1.0.
    fn npy(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
        let fortran = if fortran { "True" } else { "False" };
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
        while !(header.len() + 11).is_multiple_of(64) {
            header.push(' ');
        }
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend(data);
        bytes
    }

    fn archive(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, array) in arrays {
            zip.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
            zip.write_all(array).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn arrays_of_either_order_and_any_width_are_read() {
        let doubles: Vec<u8> = [1.5f64, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let bytes = archive(&[
            ("a/kernel", npy("<f4", false, "(2, 3)", &floats(&[1., 2., 3., 4., 5., 6.]))),
            ("b", npy("<f4", true, "(2, 3)", &floats(&[1., 4., 2., 5., 3., 6.]))),
            ("c", npy("<f8", false, "(2,)", &doubles)),
            ("d", npy("<f2", false, "()", &0x3c00u16.to_le_bytes())),
        ]);
        let tensors = Checkpoint::from_bytes(&bytes).unwrap().tensors;
        let expected = Tensor::new([2, 3], vec![1., 2., 3., 4., 5., 6.]).unwrap();
        assert_eq!((&tensors["a/kernel"], &tensors["b"]), (&expected, &expected));
        assert_eq!(tensors["c"], Tensor::new([2], vec![1.5, -2.0]).unwrap());
        assert_eq!(tensors["d"], Tensor::new([], vec![1.0]).unwrap());
    }

    #[test]
    fn what_is_no_array_of_floats_is_refused_by_name() {
        let error = |array: Vec<u8>| Checkpoint::from_bytes(&archive(&[("step", array)])).unwrap_err().to_string();
        let complex = error(npy("<c8", false, "()", &[0; 8]));
        assert!(complex.contains("`step` holds `<c8`"), "{complex}");
        let whole = error(npy("<i8", false, "()", &[0; 8]));
        assert_eq!(whole, "the file holds no weights");
        let short = error(npy("<f4", false, "(1000000, 1000000)", &[0; 8]));
        assert!(short.contains("`step`") && short.contains("1000000"), "{short}");
        let none = error(b"not an array".to_vec());
        assert!(none.contains("`step`"), "{none}");
    }

    proptest! {
        #[test]
        fn damaged_archives_do_no_harm(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut bytes = archive(&[("a", npy("<f4", true, "(2, 3)", &[7; 24]))]);
            let place = at.index(bytes.len());
            bytes[place] = byte;
            let _ = Checkpoint::from_bytes(&bytes);
            let _ = Checkpoint::from_bytes(&bytes[..cut.index(bytes.len())]);
        }
    }
}
