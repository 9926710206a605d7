//! Weights of the graph as burn has them, and gradients as the graph has them.

use anyhow::Context;
use burn::module::{Param, ParamId};
use burn::nn::{LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Tensor, TensorData};

use crate::case::Case;

/// The weights of a case on their way to a device.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    pub(super) case: &'a Case,
    pub(super) device: &'a Device,
}

impl Weights<'_> {
    /// The weight `name` in another shape of as many values.
    pub(super) fn read<const D: usize>(self, name: &str, shape: [usize; D]) -> anyhow::Result<Tensor<D>> {
        Ok(Tensor::from_data(TensorData::new(self.case.weight(name)?.values().to_vec(), shape), self.device))
    }

    /// `[in, out]` of a weight `[out, ...]`, laid out so in memory.
    fn transposed(self, name: &str) -> anyhow::Result<Tensor<2>> {
        let weight = self.case.weight(name)?;
        let rows = weight.shape().first().copied().unwrap_or(1).max(1);
        let values = transposed(weight.values(), rows);
        Ok(Tensor::from_data(TensorData::new(values, [weight.len() / rows, rows]), self.device))
    }

    /// A linear layer that is not trained.
    pub(super) fn frozen_linear(self, name: &str) -> anyhow::Result<Linear> {
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
        let len = self.case.weight(&bias)?.len();
        let bias = frozen(self.read(&bias, [len])?);
        Ok(Linear { weight: frozen(self.transposed(&weight)?), bias: Some(bias) })
    }

    /// A linear layer that is trained.
    pub(super) fn trained_linear(self, weight: &str, bias: &str) -> anyhow::Result<Linear> {
        let len = self.case.weight(bias)?.len();
        let bias = Param::from_tensor(self.read(bias, [len])?);
        Ok(Linear { weight: Param::from_tensor(self.transposed(weight)?), bias: Some(bias) })
    }

    /// Rows `part` of three equal parts of a linear layer that is not trained.
    pub(super) fn frozen_third(self, name: &str, part: usize) -> anyhow::Result<Linear> {
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
        let (weight, bias) = (self.case.weight(&weight)?, self.case.weight(&bias)?);
        let rows = bias.len() / 3;
        let columns = weight.len() / bias.len();
        let third = |values: &[f32], len: usize| values[part * len..][..len].to_vec();
        let values = transposed(&third(weight.values(), rows * columns), rows);
        let weight = Tensor::from_data(TensorData::new(values, [columns, rows]), self.device);
        let bias = Tensor::from_data(TensorData::new(third(bias.values(), rows), [rows]), self.device);
        Ok(Linear { weight: frozen(weight), bias: Some(frozen(bias)) })
    }

    /// A LayerNorm that is not trained.
    pub(super) fn frozen_norm(self, name: &str) -> anyhow::Result<LayerNorm> {
        let width = self.case.config.embed_dim;
        let mut norm = LayerNormConfig::new(width).with_epsilon(f64::from(self.case.config.ln_eps)).init(self.device);
        norm.gamma = frozen(self.read(&format!("{name}.weight"), [width])?);
        norm.beta = Some(frozen(self.read(&format!("{name}.bias"), [width])?));
        Ok(norm)
    }
}

/// A parameter without a gradient.
pub(super) fn frozen<const D: usize>(value: Tensor<D>) -> Param<Tensor<D>> {
    Param::initialized(ParamId::new(), value)
}

/// A matrix of so many rows, column by column.
pub(super) fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows.max(1);
    (0..values.len()).map(|at| values[at % rows * columns + at / rows]).collect()
}

/// The gradient of `param` as the graph's weight `name` has it: turned, where the weight is a matrix of the other direction.
pub(super) fn gradient<const D: usize>(
    case: &Case,
    name: &str,
    values: Tensor<D>,
    turn: impl FnOnce(Vec<f32>) -> Vec<f32>,
) -> anyhow::Result<edge_vit_models::Tensor> {
    let values = values.into_data().try_into_vec::<f32>().with_context(|| format!("`{name}` is not in float32"))?;
    let shape = case.weight(name)?.shape().to_vec();
    Ok(edge_vit_models::Tensor::new(shape, turn(values))?)
}
