//! RepAdapter, arXiv 2302.08106: `y = x + scale (B h + b)` with `h = dropout(A x + a)`, over rows.

use super::Real;
use super::product::{Layout, add_product, product};
use super::vector::{sum_rows, vectorized};

/// An adapter and its weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct RepAdapter<'a, T> {
    /// `A` `[hidden, dim]`.
    pub(super) down: &'a [T],
    /// `a` `[hidden]`.
    pub(super) down_bias: &'a [T],
    /// `B` `[dim, hidden / groups]`.
    pub(super) up: &'a [T],
    /// `b` `[dim]`.
    pub(super) up_bias: &'a [T],
    /// Groups of `B`.
    pub(super) groups: usize,
    /// Factor on the branch.
    pub(super) scale: f32,
}

/// Where the gradients of the four weights go, in their order.
pub(super) struct Gradients<'a, T> {
    pub(super) down: &'a mut [T],
    pub(super) down_bias: &'a mut [T],
    pub(super) up: &'a mut [T],
    pub(super) up_bias: &'a mut [T],
}

impl<T: Real> RepAdapter<'_, T> {
    fn hidden(&self) -> usize {
        self.down_bias.len()
    }

    fn dim(&self) -> usize {
        self.up_bias.len()
    }

    fn scale(&self) -> T {
        T::from_f32(self.scale)
    }

    /// For every group: its first output, its first hidden unit, and where its part of `B` begins.
    fn group_starts(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<T> {
        let (outputs, units) = (self.dim() / self.groups, self.hidden() / self.groups);
        (0..self.groups).map(move |group| (group * outputs, group * units, group * outputs * units))
    }

    /// The layouts of a group's outputs in `[rows, dim]`, its units in `[rows, hidden]` and its part of `B`.
    fn group_layouts(&self, rows: usize) -> [Layout; 3] {
        let (outputs, units) = (self.dim() / self.groups, self.hidden() / self.groups);
        [
            Layout::columns(rows, outputs, self.dim()),
            Layout::columns(rows, units, self.hidden()),
            Layout::dense(outputs, units),
        ]
    }

    /// `x` and `y` `[rows, dim]`; `hidden` `[rows, hidden]` takes `h`, where `drop` multiplies unit `index` of the
    /// whole by 0 or more.
    pub(super) fn forward(&self, x: &[T], hidden: &mut [T], drop: Option<&dyn Fn(usize) -> T>, y: &mut [T]) {
        let (dim, scale) = (self.dim(), self.scale());
        super::linear::forward(x, self.down, Some(self.down_bias), dim, hidden);
        apply(drop, hidden);
        vectorized(
            #[inline(always)]
            || {
                for (x, y) in x.chunks_exact(dim).zip(y.chunks_exact_mut(dim)) {
                    for ((y, &x), &bias) in y.iter_mut().zip(x).zip(self.up_bias) {
                        *y = x + scale * bias;
                    }
                }
            },
        );
        let [outputs, units, part] = self.group_layouts(x.len() / dim);
        for (output, unit, start) in self.group_starts() {
            let up = part.of(&self.up[start..]).transpose();
            add_product(outputs.of_mut(&mut y[output..]), units.of(&hidden[unit..]), up, scale);
        }
    }

    /// The gradients of the weights, where they are trained (`x` and `hidden` as the forward had and left them), and,
    /// with `input`, in place of `gradient` `dy` the input's `dx = dy + dh A`. `dhidden` is scratch `[rows, hidden]`.
    pub(super) fn backward(
        &self,
        gradient: &mut [T],
        dhidden: &mut [T],
        drop: Option<&dyn Fn(usize) -> T>,
        trained: Option<(&[T], &[T], Gradients<'_, T>)>,
        input: bool,
    ) {
        let (dim, scale) = (self.dim(), self.scale());
        let rows = gradient.len() / dim;
        let [outputs, units, part] = self.group_layouts(rows);
        for (output, unit, start) in self.group_starts() {
            let up = part.of(&self.up[start..]);
            product(units.of_mut(&mut dhidden[unit..]), outputs.of(&gradient[output..]), up, scale);
        }
        apply(drop, dhidden);
        if let Some((x, hidden, gradients)) = trained {
            for (output, unit, start) in self.group_starts() {
                let dy = outputs.of(&gradient[output..]).transpose();
                product(part.of_mut(&mut gradients.up[start..]), dy, units.of(&hidden[unit..]), scale);
            }
            sum_rows(gradient, scale, gradients.up_bias);
            super::linear::backward_weights(x, dhidden, dim, gradients.down, gradients.down_bias);
        }
        if input {
            let (dhidden, down) = (Layout::dense(rows, self.hidden()).of(dhidden), Layout::dense(self.hidden(), dim));
            add_product(Layout::dense(rows, dim).of_mut(gradient), dhidden, down.of(self.down), T::ONE);
        }
    }
}

fn apply<T: Real>(drop: Option<&dyn Fn(usize) -> T>, hidden: &mut [T]) {
    if let Some(drop) = drop {
        for (index, value) in hidden.iter_mut().enumerate() {
            *value *= drop(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_reads_its_own_hidden_units() {
        let adapter = RepAdapter {
            down: &[1.0, 0.0, 0.0, 1.0],
            down_bias: &[1.0, 0.0],
            up: &[10.0, 100.0],
            up_bias: &[0.5, 0.0],
            groups: 2,
            scale: 2.0,
        };
        let (mut hidden, mut y) = ([0.0; 2], [0.0; 2]);
        adapter.forward(&[3.0f64, 5.0], &mut hidden, None, &mut y);
        assert_eq!(hidden, [4.0, 5.0]);
        assert_eq!(y, [3.0 + 2.0 * 40.5, 5.0 + 2.0 * 500.0]);
        adapter.forward(&[3.0, 5.0], &mut hidden, Some(&|unit| [0.0, 2.0][unit]), &mut y);
        assert_eq!(y, [3.0 + 2.0 * 0.5, 5.0 + 2.0 * 1000.0]);
    }
}
