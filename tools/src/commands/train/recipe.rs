//! The arguments whose values a recipe gives where the command line does not.

use clap::ValueEnum;
use edge_vit_models::adapter::Adaptation;

use super::device::PrecisionName;
use crate::train::augment::{Augment, Mix, RandAugment};
use crate::train::{Preset, Recipe, Sampler};

/// The arguments that go before the values of `--recipe`.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct RecipeArgs {
    /// What stands where no flag says otherwise: `default`, for short runs on a few hundred pictures; `vtab`, that of
    /// RepAdapter's authors for VTAB-1k; `few-shot`, theirs for few pictures of each class
    #[arg(long, value_enum, default_value_t = PresetName::Default, help_heading = "Optimisation")]
    recipe: PresetName,

    /// Passes over the pictures [default: 30; vtab, few-shot 100]
    #[arg(long, help_heading = "Optimisation")]
    epochs: Option<u32>,
    /// Pictures a step [default: 32; vtab, few-shot 64]
    #[arg(long, help_heading = "Optimisation")]
    batch_size: Option<usize>,
    /// Highest learning rate of AdamW, which falls along half a cosine [default: 0.002, where --method says layernorm 0.02,
    /// linear 0.01, lastblocks 0.0002, full 0.00002; vtab, few-shot 0.001]
    #[arg(long, help_heading = "Optimisation")]
    lr: Option<f32>,
    /// Learning rate at the end [default: a hundredth of --lr; vtab, few-shot 0.00001]
    #[arg(long, value_name = "LR", help_heading = "Optimisation")]
    min_lr: Option<f32>,
    /// Decoupled weight decay [default: 0.0001]
    #[arg(long, help_heading = "Optimisation")]
    weight_decay: Option<f32>,
    /// Epochs in which the learning rate rises [default: a tenth of all]
    #[arg(long, value_name = "EPOCHS", help_heading = "Optimisation")]
    warmup: Option<f64>,
    /// Learning rate of the first step [default: the first of equal steps up to --lr; vtab, few-shot 0.000001]
    #[arg(long, value_name = "LR", help_heading = "Optimisation")]
    warmup_lr: Option<f32>,
    /// Share of the target spread over all classes [default: 0; few-shot 0.1]
    #[arg(long, help_heading = "Optimisation")]
    label_smoothing: Option<f32>,
    /// Probability that an adapter's hidden unit is dropped [default: 0.1]
    #[arg(long, help_heading = "Optimisation")]
    dropout: Option<f32>,
    /// Probability that the last residual branch is dropped; earlier ones less, down to 0 [default: 0.1]
    #[arg(long, help_heading = "Optimisation")]
    drop_path: Option<f32>,
    /// Validate and keep a moving average of the trained weights with this decay, such as 0.99, in their place
    #[arg(long, value_name = "DECAY", help_heading = "Optimisation")]
    ema: Option<f32>,
    /// End after this many epochs without a better one
    #[arg(long, value_name = "EPOCHS", help_heading = "Optimisation")]
    patience: Option<u32>,
    /// How exact a GPU computes: in float32, or with frozen weights in float16, which take half of the memory
    #[arg(long, value_enum, default_value_t = PrecisionName::F32, help_heading = "Optimisation")]
    precision: PrecisionName,
    /// Which pictures an epoch holds: every one once, or as many of each class
    #[arg(long, value_enum, default_value_t = SamplerName::Shuffled, help_heading = "Optimisation")]
    sampler: SamplerName,

    /// Probability that a picture is mirrored, left to right [default: 0; few-shot 0.5]
    #[arg(long, value_name = "P", help_heading = "Augmentation")]
    flip: Option<f64>,
    /// Train on random parts of pictures, of at least this share of their area; 1 for whole pictures [default: 1; few-shot
    /// 0.08]
    #[arg(long, value_name = "SHARE", help_heading = "Augmentation")]
    crop: Option<f64>,
    /// RandAugment, by timm's name of a policy; `none` for none [default: none; few-shot rand-m9-mstd0.5-inc1]
    #[arg(
        long,
        value_name = "POLICY",
        value_parser = parse_policy,
        num_args = 0..=1,
        default_missing_value = "rand-m9-mstd0.5-inc1",
        help_heading = "Augmentation"
    )]
    rand_augment: Option<Policy>,
    /// Change brightness, contrast and saturation by factors of up to this below and above 1 [default: 0]
    #[arg(long, value_name = "STRENGTH", help_heading = "Augmentation")]
    color_jitter: Option<f64>,
    /// Probability that a rectangle of a picture becomes noise [default: 0; few-shot 0.25]
    #[arg(long, value_name = "P", help_heading = "Augmentation")]
    erase: Option<f64>,
    /// Mix pictures of a batch, with shares out of a beta distribution with this parameter; 0 for not [default: 0;
    /// few-shot 0.8]
    #[arg(long, value_name = "ALPHA", help_heading = "Augmentation")]
    mixup: Option<f64>,
    /// Exchange rectangles between pictures of a batch, of shares out of a beta distribution with this parameter; 0 for not
    /// [default: 0; few-shot 1]
    #[arg(long, value_name = "ALPHA", help_heading = "Augmentation")]
    cutmix: Option<f64>,
    /// Probability that a batch is mixed, where --mixup or --cutmix are on [default: 1]
    #[arg(long, value_name = "P", help_heading = "Augmentation")]
    mix_prob: Option<f64>,
    /// Probability of --cutmix where --mixup is on as well [default: 0.5]
    #[arg(long, value_name = "P", help_heading = "Augmentation")]
    switch_prob: Option<f64>,
}

/// [`Preset`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PresetName {
    Default,
    Vtab,
    FewShot,
}

/// [`Sampler`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SamplerName {
    Shuffled,
    Balanced,
}

/// RandAugment or none.
#[derive(Debug, Clone, Copy)]
struct Policy(Option<RandAugment>);

fn parse_policy(text: &str) -> Result<Policy, String> {
    match text {
        "none" => Ok(Policy(None)),
        _ => text.parse().map(|policy| Policy(Some(policy))),
    }
}

impl RecipeArgs {
    /// The recipe that is named, for `adapters`, with the flags that are given in the place of its values.
    pub(in crate::commands) fn resolve(&self, adapters: Adaptation) -> Recipe {
        let named = match self.recipe {
            PresetName::Default => Preset::Default,
            PresetName::Vtab => Preset::Vtab,
            PresetName::FewShot => Preset::FewShot,
        };
        let base = named.recipe_for(adapters);
        Recipe {
            augment: self.augment(&base.augment),
            sampler: match self.sampler {
                SamplerName::Shuffled => Sampler::Shuffled,
                SamplerName::Balanced => Sampler::Balanced,
            },
            precision: self.precision.into(),
            epochs: self.epochs.unwrap_or(base.epochs),
            batch_size: self.batch_size.unwrap_or(base.batch_size),
            lr: self.lr.unwrap_or(base.lr),
            min_lr: self.min_lr.or(base.min_lr),
            weight_decay: self.weight_decay.unwrap_or(base.weight_decay),
            warmup_epochs: self.warmup.or(base.warmup_epochs),
            warmup_lr: self.warmup_lr.or(base.warmup_lr),
            label_smoothing: self.label_smoothing.unwrap_or(base.label_smoothing),
            dropout: self.dropout.unwrap_or(base.dropout),
            drop_path: self.drop_path.unwrap_or(base.drop_path),
            ema: self.ema.or(base.ema),
            patience: self.patience.or(base.patience),
            ..base
        }
    }

    fn augment(&self, base: &Augment) -> Augment {
        Augment {
            flip: self.flip.unwrap_or(base.flip),
            // A part that is as large as the whole is none.
            crop: self.crop.or(base.crop).filter(|&share| share != 1.0),
            rand_augment: self.rand_augment.map_or(base.rand_augment, |Policy(policy)| policy),
            color_jitter: self.color_jitter.unwrap_or(base.color_jitter),
            erase: self.erase.unwrap_or(base.erase),
            mix: Mix {
                mixup: self.mixup.unwrap_or(base.mix.mixup),
                cutmix: self.cutmix.unwrap_or(base.mix.cutmix),
                probability: self.mix_prob.unwrap_or(base.mix.probability),
                switch_probability: self.switch_prob.unwrap_or(base.mix.switch_probability),
            },
        }
    }
}
