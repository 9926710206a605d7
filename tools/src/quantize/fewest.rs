//! The search for the fewest layers that stay in float32.

/// The least number of `layers` to be kept, at most all but one, with which `fits` says yes; `None` where it does not. It is
/// taken that with more layers kept what fits goes on to fit: 0, 1, 2, 4, ... are tried, then the middle between the last that
/// did not fit and the first that did.
///
/// # Errors
/// Those of `fits`.
pub(super) fn fewest<E>(layers: usize, mut fits: impl FnMut(usize) -> Result<bool, E>) -> Result<Option<usize>, E> {
    let Some(most) = layers.checked_sub(1) else { return Ok(None) };
    if fits(0)? {
        return Ok(Some(0));
    }
    let (mut misses, mut found) = (0, 1.min(most));
    loop {
        if found == misses {
            return Ok(None);
        }
        if fits(found)? {
            break;
        }
        misses = found;
        found = (2 * found).min(most);
    }
    while found - misses > 1 {
        let middle = misses.midpoint(found);
        match fits(middle)? {
            true => found = middle,
            false => misses = middle,
        }
    }
    Ok(Some(found))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn the_fewest_are_found_with_few_tries() {
        for layers in 0..50 {
            for needed in 0..=layers {
                let mut tries = Vec::new();
                let found = fewest(layers, |kept| {
                    tries.push(kept);
                    Ok::<_, Infallible>(kept >= needed)
                });
                assert_eq!(found, Ok((needed < layers).then_some(needed)), "{needed} of {layers}");
                assert!(tries.len() <= 13 && tries.iter().all(|&kept| kept < layers), "{tries:?}");
                let count = tries.len();
                tries.sort_unstable();
                tries.dedup();
                assert_eq!(tries.len(), count, "nothing is measured twice");
            }
        }
    }

    #[test]
    fn an_error_ends_the_search() {
        assert_eq!(fewest(8, |kept| if kept < 2 { Ok(false) } else { Err("broken") }), Err("broken"));
    }
}
