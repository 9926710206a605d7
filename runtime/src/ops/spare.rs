//! Memory that one operator has read for the last time, and another writes to.
//!
//! New memory would have to be filled with zeros that nothing reads.

use std::cell::RefCell;
use std::mem::{Discriminant, discriminant};

use tract_core::internal::*;

/// How many tensors of a size a thread keeps: as many as a block of a transformer has at once. Were they counted over all sizes
/// alone, one size would drive out another, and runs would differ in what they find.
const ALIKE: usize = 6;
/// How many it keeps in all.
const MOST: usize = 24;

thread_local! {
    // Its room is there from the start, so that no later run allocates for it.
    static SPARE: RefCell<Vec<Tensor>> = RefCell::new(Vec::with_capacity(MOST));
}

/// A tensor whose values are anything: those of another one, or zeros.
pub(super) fn take<T: Datum + tract_core::num_traits::Zero>(shape: &[usize]) -> TractResult<Tensor> {
    let wanted = (discriminant(&T::datum_type()), shape.iter().product());
    let spare = SPARE.with_borrow_mut(|spare| {
        let place = spare.iter().rposition(|tensor| size(tensor) == wanted)?;
        Some(spare.remove(place))
    });
    match spare {
        Some(mut tensor) => tensor.set_shape(shape).map(|()| tensor),
        None => Tensor::zero::<T>(shape),
    }
}

/// What two tensors have in common whose memory serves one another. A quantised type's parameters are left out: nobody takes such a
/// tensor, and to compare whole types reads parameters that most of them do not have, which a memory checker calls an error.
fn size(tensor: &Tensor) -> (Discriminant<DatumType>, usize) {
    (discriminant(&tensor.datum_type()), tensor.len())
}

/// Keeps the memory of `value` for [`take`], if nobody else reads it.
pub(super) fn keep(value: TValue) {
    if value.is_exclusive() {
        let tensor = value.into_tensor();
        SPARE.with_borrow_mut(|spare| {
            if spare.iter().filter(|other| size(other) == size(&tensor)).count() == ALIKE {
                return;
            }
            if spare.len() == MOST {
                spare.remove(0);
            }
            spare.push(tensor);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_reads_is_written_to_again() {
        let tensor = |value: f32| Tensor::from_shape(&[2, 3], &[value; 6]).unwrap().into_tvalue();
        let (free, held) = (tensor(1.0), tensor(2.0));
        let reader = held.clone();
        keep(free);
        keep(held);
        assert_eq!(take::<u8>(&[6]).unwrap(), Tensor::zero::<u8>(&[6]).unwrap());
        assert_eq!(take::<f32>(&[3, 2]).unwrap(), Tensor::from_shape(&[3, 2], &[1.0_f32; 6]).unwrap());
        assert_eq!(take::<f32>(&[3, 2]).unwrap(), Tensor::zero::<f32>(&[3, 2]).unwrap());
        assert_eq!(reader, tensor(2.0));
    }

    #[test]
    fn one_size_does_not_drive_out_another() {
        keep(tensor0(1_u8).into_tvalue());
        for _ in 0..2 * MOST {
            keep(Tensor::zero::<f32>(&[2]).unwrap().into_tvalue());
        }
        let kept = SPARE.with_borrow(|spare| spare.iter().map(size).collect::<Vec<_>>());
        let [byte, pair] = [(u8::datum_type(), 1), (f32::datum_type(), 2)].map(|(of, len)| (discriminant(&of), len));
        assert_eq!(kept, [vec![byte], vec![pair; ALIKE]].concat());
    }

    #[test]
    fn no_more_is_kept_than_there_is_use_for() {
        for len in 1..=3 * MOST {
            keep(Tensor::from_shape(&[len], &vec![1.0_f32; len]).unwrap().into_tvalue());
        }
        let kept = SPARE.with_borrow(|spare| spare.iter().map(Tensor::len).collect::<Vec<_>>());
        assert_eq!(kept, (2 * MOST + 1..=3 * MOST).collect::<Vec<_>>());
    }
}
