//! Memory that one operator has read for the last time, and another writes to.
//!
//! New memory would have to be filled with zeros that nothing reads.

use std::cell::RefCell;

use tract_core::internal::*;

/// How many tensors a thread keeps: about as many as a block of a transformer has at once.
const MOST: usize = 8;

thread_local! {
    static SPARE: RefCell<Vec<Tensor>> = const { RefCell::new(Vec::new()) };
}

/// A tensor whose values are anything: those of another one, or zeros.
pub(super) fn take<T: Datum + tract_core::num_traits::Zero>(shape: &[usize]) -> TractResult<Tensor> {
    let len: usize = shape.iter().product();
    let spare = SPARE.with_borrow_mut(|spare| {
        let fits = |tensor: &Tensor| tensor.datum_type() == T::datum_type() && tensor.len() == len;
        spare.iter().rposition(fits).map(|place| spare.swap_remove(place))
    });
    match spare {
        Some(mut tensor) => tensor.set_shape(shape).map(|()| tensor),
        None => Tensor::zero::<T>(shape),
    }
}

/// Keeps the memory of `value` for [`take`], if nobody else reads it.
pub(super) fn keep(value: TValue) {
    if value.is_exclusive() {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() == MOST {
                spare.remove(0);
            }
            spare.push(value.into_tensor());
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
    fn no_more_is_kept_than_there_is_use_for() {
        for len in 1..=3 * MOST {
            keep(Tensor::from_shape(&[len], &vec![1.0_f32; len]).unwrap().into_tvalue());
        }
        let kept = SPARE.with_borrow(|spare| spare.iter().map(Tensor::len).collect::<Vec<_>>());
        assert_eq!(kept, (2 * MOST + 1..=3 * MOST).collect::<Vec<_>>());
    }
}
