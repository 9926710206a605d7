//! The same model written with burn.

mod layers;
mod vit;
mod weights;

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use edge_vit_tools::gpu::AdapterInfo;

use crate::Side;
use crate::case::{CLASSES, Case};
use vit::VisionTransformer;

pub(crate) struct Theirs {
    device: Device,
    /// Taken out while a step makes a new one of it.
    model: Option<VisionTransformer>,
    optimizer: ModuleOptimizer,
}

impl Theirs {
    /// # Errors
    /// When burn opens another adapter, or a weight is not there.
    pub(crate) fn new(adapter: &AdapterInfo, case: &Case) -> anyhow::Result<Self> {
        let kind = if adapter.software { DeviceKind::Cpu } else { DeviceKind::DefaultDevice };
        let (device, setup) = Device::wgpu_options().device_kind(kind).init_with_setup()?;
        let opened = setup.adapter.get_info();
        let same = opened.name == adapter.name && opened.backend.to_string() == adapter.backend;
        ensure!(same, "burn opened `{}` ({})", opened.name, opened.backend);
        let device = device.autodiff();
        let model = Some(VisionTransformer::new(case, &device)?);
        let hyper = case.hyper;
        let optimizer = AdamWConfig::new()
            .with_beta_1(hyper.beta1)
            .with_beta_2(hyper.beta2)
            .with_epsilon(hyper.eps)
            .with_weight_decay(hyper.weight_decay)
            .init();
        Ok(Self { device, model, optimizer })
    }

    /// The mean cross-entropy over the batch.
    fn loss(&self, model: &VisionTransformer, case: &Case) -> Tensor<1> {
        let [height, width] = case.config.image_size;
        let pictures = TensorData::new(case.input.clone(), [case.pictures, case.config.in_chans, height, width]);
        let targets = TensorData::new(case.targets.clone(), [case.pictures, CLASSES]);
        let logits = model.forward(Tensor::from_data(pictures, &self.device));
        let targets: Tensor<2> = Tensor::from_data(targets, &self.device);
        let log_probabilities = burn::tensor::activation::log_softmax(logits, 1);
        (log_probabilities * targets).sum().mul_scalar(-1.0 / case.pictures as f64)
    }
}

const NO_MODEL: &str = "a step that failed left no model";

impl Side for Theirs {
    fn name(&self) -> &'static str {
        "burn"
    }

    fn gradients(&mut self, case: &Case) -> anyhow::Result<(f32, BTreeMap<String, edge_vit_models::Tensor>)> {
        let model = self.model.as_ref().context(NO_MODEL)?;
        let loss = self.loss(model, case);
        let gradients = loss.backward();
        let gradients = model.gradients(case, &gradients)?;
        Ok((loss.into_scalar(), gradients))
    }

    fn step(&mut self, case: &Case) -> anyhow::Result<f32> {
        let model = self.model.take().context(NO_MODEL)?;
        let loss = self.loss(&model, case);
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        self.model = Some(self.optimizer.step(f64::from(case.hyper.lr), model, gradients));
        let loss = loss.into_scalar();
        self.device.sync()?;
        Ok(loss)
    }
}
