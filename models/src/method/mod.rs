//! Methods that adapt a backbone by changing its linear maps, and that leave nothing behind: each says what becomes of a
//! host's weight `W [out, in]` and bias `c [out]`.
//!
//! A method's model is the backbone with merged weights, in training as on the device, so that folding it is exact by
//! construction: the engine computes gradients of the merged weights, and [`Method::pull_back`] turns those into gradients
//! of the method's own parameters. What this form leaves out is noise inside of an adapter (RepAdapter's and LoRA's
//! dropout). [`Method::forward`] is the definition that papers give, over activations; the laws in this module's tests
//! hold the merged weights against it.

mod arc;
mod consolidator;
mod dora;
mod fact;
mod host;
mod lora;
mod low_rank;
mod matrix;
mod oft;
mod rep_adapter;
mod rlrr;
mod spec;
mod ssf;
#[cfg(test)]
mod tests;
mod theta;

use std::fmt::Debug;

use thiserror::Error;

use crate::graph::GraphError;
use crate::op::Param;
use crate::tensor::TensorError;

pub use host::{Affine, Host, Role, hosts, with_biases};
pub use lora::LoraTarget;
pub(crate) use low_rank::LowRank;
pub use matrix::Matrix;
pub(crate) use rep_adapter::RepAdapterWeights;
pub use rep_adapter::Site;
pub use spec::MethodSpec;
pub use theta::{Theta, departure, fresh, merged, params, pulled_back};

/// Why a method could not be put on a backbone.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum MethodError {
    /// The graph is not valid.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A weight cannot be held.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The backbone has none of the layers that the method changes.
    #[error("{method} changes {wanted} of the backbone's blocks, and the backbone has none; take another --method")]
    NoHost {
        /// The method.
        method: &'static str,
        /// What it looks for.
        wanted: String,
    },
    /// A size does not divide the layer's.
    #[error("{method}: {reason} (layer `{host}`)")]
    Size {
        /// The method.
        method: &'static str,
        /// The layer.
        host: String,
        /// What fits and what came.
        reason: String,
    },
    /// A parameter of the method is not there.
    #[error("the parameter `{name}` is missing; are these the tensors of another method?")]
    Missing {
        /// Its name.
        name: String,
    },
    /// The number of blocks to tune is none, or more than there are.
    #[error("{got} last blocks were asked for; give 1 to {depth}")]
    LastBlocks {
        /// The number asked for.
        got: usize,
        /// The number there is.
        depth: usize,
    },
    /// A matrix that a method needs has no inverse, or a weight is not finite.
    #[error("the parameters of `{host}` are not finite; did the training diverge?")]
    NotFinite {
        /// The layer.
        host: String,
    },
}

/// A method whose effect is a change of linear maps.
pub trait Method: Debug + Send + Sync {
    /// Its name, as `--method` takes it.
    fn name(&self) -> &'static str;

    /// The layers that it changes.
    fn roles(&self) -> &[Role];

    /// The parameters of one host; their names begin with the host's.
    ///
    /// # Errors
    /// When the method's sizes do not fit the host's.
    fn params(&self, host: &Host) -> Result<Vec<Param>, MethodError>;

    /// The parameters that hosts share, given all of them.
    fn shared(&self, _hosts: &[Host]) -> Vec<Param> {
        Vec::new()
    }

    /// How a parameter begins, so that the method begins as the identity.
    fn initial(&self, param: &Param, host: Option<(&Host, &Affine)>) -> Initial;

    /// `W'` and `c'`.
    ///
    /// # Errors
    /// When a parameter is missing or not finite.
    fn merge(&self, host: &Host, theta: &Theta, frozen: &Affine) -> Result<Affine, MethodError>;

    /// Adds to `gradient` the gradients of the method's parameters, from that of `W'` and `c'`.
    ///
    /// # Errors
    /// As [`Method::merge`].
    fn pull_back(
        &self,
        host: &Host,
        theta: &Theta,
        frozen: &Affine,
        merged: &Affine,
        gradient: &mut Theta,
    ) -> Result<(), MethodError>;

    /// What the adapted layer makes of one input `x [in]`, by the method's own definition.
    ///
    /// # Errors
    /// As [`Method::merge`].
    fn forward(&self, host: &Host, theta: &Theta, frozen: &Affine, x: &[f64]) -> Result<Vec<f64>, MethodError>;
}

/// The products of every row with `x`.
fn dot_rows<'a>(matrix: &'a Matrix, x: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    (0..matrix.rows()).map(|i| matrix::dot(matrix.row(i), x))
}

/// The error of a size that does not fit `host`.
fn misfit(method: &dyn Method, host: &Host, reason: String) -> MethodError {
    MethodError::Size { method: method.name(), host: host.name.clone(), reason }
}

/// How a parameter begins.
#[derive(Debug, Clone, PartialEq)]
pub enum Initial {
    /// One value throughout.
    Constant(f64),
    /// Uniform within `sqrt(6 / (rows + columns))` (Xavier).
    Xavier,
    /// These values.
    Values(Vec<f64>),
}
