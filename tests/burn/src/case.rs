//! What both sides train: a vision transformer with its adapters and head at random weights, and a batch.

use std::collections::BTreeSet;

use anyhow::{Context, bail, ensure};
use edge_vit_models::adapter::{self, Spec};
use edge_vit_models::backbone::{self, Architecture, Config};
use edge_vit_models::vit::{self, GlobalPool};
use edge_vit_models::{Activation, Graph, Tensor};
use edge_vit_tools::engine::{Hyper, targets};
use edge_vit_tools::gpu::{self, AdapterInfo};
use edge_vit_tools::measure::{self, Batch};

/// Classes of the head.
pub(crate) const CLASSES: usize = 10;

/// A model and what it learns from.
pub(crate) struct Case {
    /// What it is called in a table.
    pub(crate) name: String,
    pub(crate) config: vit::Config,
    pub(crate) spec: Spec,
    /// With adapters, head and all weights.
    pub(crate) graph: Graph,
    /// The weights that are trained.
    pub(crate) trainable: BTreeSet<String>,
    pub(crate) pictures: usize,
    /// `[pictures, channels, side, side]`.
    pub(crate) input: Vec<f32>,
    /// `[pictures, CLASSES]`.
    pub(crate) targets: Vec<f32>,
    pub(crate) hyper: Hyper,
}

impl Case {
    /// A case of the architecture with this name, of its first `depth` blocks where that is said. The adapters' weights are as random
    /// as the others: with those that training begins with, whose `B` is zero, `A` would have no gradient to compare.
    ///
    /// # Errors
    /// When there is no such architecture, the model in burn does not have what it is made of, or the picture does not fit it.
    pub(crate) fn new(architecture: &str, side: usize, depth: Option<usize>, pictures: usize) -> anyhow::Result<Self> {
        let Config::Vit(config) = Architecture::named(architecture)?.config([side, side]) else {
            bail!("{architecture} is no vision transformer");
        };
        let depth = depth.unwrap_or(config.depth).min(config.depth);
        let config = vit::Config { depth, ..config };
        let plain =
            vit::Config { global_pool: GlobalPool::Token, act_layer: Activation::Gelu, ..vit::Config::default() };
        let has = |config: &vit::Config| {
            let tokens = (config.class_token, config.dist_token, config.reg_tokens, config.no_embed_class);
            (tokens, config.pre_norm, config.act_layer, config.global_pool)
        };
        ensure!(
            has(&config) == has(&plain),
            "of {architecture} the model in burn lacks something: take a plain ViT or DINOv2"
        );
        config.grid()?;
        let spec = Spec::default();
        let mut graph = adapter::insert(&backbone::with_head(&vit::graph(&config), CLASSES)?, &spec, 0)?;
        measure::fill(&mut graph)?;
        let trainable = adapter::trainable(&graph);
        let batch = Batch::new(pictures, &[config.in_chans, side, side], CLASSES)?;
        Ok(Self {
            name: format!("{architecture}, {depth} blocks, {side}x{side}, batch {pictures}"),
            config,
            spec,
            graph,
            trainable,
            pictures,
            targets: targets(&batch.labels, CLASSES, 0.0),
            input: batch.input,
            hyper: Hyper::default(),
        })
    }

    /// The weight of this name.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn weight(&self, name: &str) -> anyhow::Result<&Tensor> {
        self.graph.weights.get(name).with_context(|| format!("there is no weight `{name}`"))
    }

    /// How many values are trained.
    pub(crate) fn trained_parameters(&self) -> usize {
        self.trainable.iter().filter_map(|name| self.graph.weights.get(name)).map(Tensor::len).sum()
    }
}

/// The adapter of this index or with this in its name, or the first one.
///
/// # Errors
/// When there is none.
pub(crate) fn adapter(selection: Option<&str>) -> anyhow::Result<AdapterInfo> {
    let adapters = gpu::adapters();
    let means = |adapter: &&AdapterInfo| match selection {
        None => true,
        Some(selection) => selection == adapter.index.to_string() || adapter.name.contains(selection),
    };
    adapters.iter().find(means).cloned().context("there is no such adapter; see `edge-vit-tools --list-gpus`")
}
