//! Rows of a matrix in the order in which a product reads them.

/// Puts `lines` beside each other: value `p` of all of them, converted, to place `p`, for as many as there are places.
#[inline(always)]
pub(super) fn interleave<T: Copy, U: Copy, const ROWS: usize>(
    lines: [&[T]; ROWS],
    convert: impl Fn(T) -> U,
    to: &mut [[U; ROWS]],
) {
    /// Values of a line that are read at once, so that squares of them are turned in registers.
    const GROUP: usize = 4;
    let (groups, rest) = to.as_chunks_mut::<GROUP>();
    let whole = groups.len() * GROUP;
    let squares: [&[[T; GROUP]]; ROWS] = lines.map(|line| line[..whole].as_chunks().0);
    for (place, to) in groups.iter_mut().enumerate() {
        let values = squares.map(|line| line[place]);
        for (next, to) in to.iter_mut().enumerate() {
            *to = values.map(|values| convert(values[next]));
        }
    }
    for (p, to) in (whole..).zip(rest) {
        *to = lines.map(|line| convert(line[p]));
    }
}
