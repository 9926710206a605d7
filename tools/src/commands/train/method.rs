//! The arguments that say what adapts the backbone.

use std::ops::Range;

use clap::ValueEnum;
use edge_vit_models::adapter::{Adaptation, Comparison, Placement, Spec};
use edge_vit_models::method::{LoraTarget, MethodSpec, Site};

/// Which adapters, or another method.
#[derive(Debug, clap::Args)]
pub(in crate::commands) struct MethodArgs {
    /// What adapts the backbone: RepAdapters, or a method that they are compared with; all are folded without a rest but
    /// adapter, parallel-adapter, adaptformer and vpt, which cannot be folded
    #[arg(long, value_enum, default_value_t = MethodName::Repadapter, help_heading = "Adapters")]
    method: MethodName,
    /// Where adapters stand: before attention and MLP, before attention alone; or, without dropout, at one place of every
    /// block or before every linear layer
    #[arg(long, value_enum, default_value_t = PlacementName::Repblock, help_heading = "Adapters")]
    placement: PlacementName,
    /// Width of an adapter's bottleneck
    #[arg(long, default_value_t = 8, help_heading = "Adapters")]
    hidden: usize,
    /// Groups of an adapter's second projection, or of Consolidator's branch [default: 2; consolidator 96]
    #[arg(long, help_heading = "Adapters")]
    groups: Option<usize>,
    /// Rank of lora, dora, fact or arc [default: 8; fact 16, arc 50]
    #[arg(long, help_heading = "Adapters")]
    rank: Option<usize>,
    /// Layers that lora stands beside, with commas: q, k, v (or qkv, all three with one A), proj, fc1, fc2
    #[arg(long, value_delimiter = ',', value_parser = parse_target, default_value = "q,v", help_heading = "Adapters")]
    targets: Vec<LoraTarget>,
    /// Side of oft's rotations
    #[arg(long, default_value_t = 16, help_heading = "Adapters")]
    block_size: usize,
    /// Learned tokens of vpt, or of vpt-deep before each block
    #[arg(long, default_value_t = 10, help_heading = "Adapters")]
    tokens: usize,
    /// How many blocks lastblocks trains
    #[arg(long, value_name = "BLOCKS", default_value_t = 1, help_heading = "Adapters")]
    last: usize,
    /// Fixed factor on an adapter's branch
    #[arg(long, default_value_t = 1.0, help_heading = "Adapters")]
    scale: f32,
    /// Adapt these blocks only, counted from 0, the last excluded; what lies below is computed once a picture
    #[arg(long, value_name = "A..B", value_parser = parse_range, help_heading = "Adapters")]
    blocks: Option<Range<usize>>,
}

/// [`Placement`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PlacementName {
    Repblock,
    Repattn,
    BeforeAttention,
    AfterAttention,
    BeforeMlp,
    AfterMlp,
    EveryLinear,
}

/// The name of a [`MethodSpec`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MethodName {
    Repadapter,
    Lora,
    Ssf,
    Fact,
    Arc,
    Rlrr,
    Dora,
    Oft,
    Consolidator,
    Bitfit,
    Layernorm,
    Lastblocks,
    Full,
    Linear,
    Adapter,
    ParallelAdapter,
    Adaptformer,
    Vpt,
    VptDeep,
}

fn parse_range(text: &str) -> Result<Range<usize>, String> {
    let parsed = text.split_once("..").and_then(|(start, end)| Some(start.parse().ok()?..end.parse().ok()?));
    parsed.filter(|range: &Range<usize>| !range.is_empty()).ok_or_else(|| "give a range like 6..12".to_owned())
}

fn parse_target(text: &str) -> Result<LoraTarget, String> {
    let names = || LoraTarget::ALL.map(LoraTarget::name).join(", ");
    let found = LoraTarget::ALL.into_iter().find(|target| target.name() == text);
    found.ok_or_else(|| format!("give some of {}", names()))
}

impl MethodArgs {
    /// The adaptation that is asked for; a clash of arguments ends the process as clap does.
    pub(in crate::commands) fn checked(&self) -> Adaptation {
        let adaptation = self.adaptation();
        if self.blocks.is_some() && !matches!(adaptation, Adaptation::Adapters(_)) {
            let message = "`--blocks` chooses blocks for `--placement repblock` and `repattn` alone; leave it out";
            clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, format!("{message}\n")).exit();
        }
        adaptation
    }

    fn adaptation(&self) -> Adaptation {
        let scale = f64::from(self.scale);
        let (groups, rank) = (self.groups.unwrap_or(2), self.rank.unwrap_or(8));
        let alpha = scale * rank as f64;
        let method = match self.method {
            MethodName::Repadapter => return self.rep_adapters(groups),
            MethodName::Lora => MethodSpec::Lora { rank, alpha, targets: self.targets.iter().copied().collect() },
            MethodName::Ssf => MethodSpec::Ssf,
            MethodName::Fact => MethodSpec::Fact { rank: self.rank.unwrap_or(16), scale },
            MethodName::Arc => MethodSpec::Arc { rank: self.rank.unwrap_or(50) },
            MethodName::Rlrr => MethodSpec::Rlrr,
            MethodName::Dora => MethodSpec::Dora { rank, alpha },
            MethodName::Oft => MethodSpec::Oft { block_size: self.block_size },
            MethodName::Consolidator => MethodSpec::Consolidator { groups: self.groups.unwrap_or(96) },
            MethodName::Bitfit => MethodSpec::BitFit,
            MethodName::Layernorm => MethodSpec::LayerNorm,
            MethodName::Lastblocks => MethodSpec::LastBlocks { count: self.last },
            MethodName::Full => MethodSpec::Full,
            MethodName::Linear => MethodSpec::Linear,
            MethodName::Adapter => return Adaptation::Comparison(Comparison::Adapter { hidden: self.hidden }),
            MethodName::ParallelAdapter => {
                let comparison = Comparison::ParallelAdapter { hidden: self.hidden, scale: self.scale };
                return Adaptation::Comparison(comparison);
            }
            MethodName::Adaptformer => {
                return Adaptation::Comparison(Comparison::Adaptformer { hidden: self.hidden, scale: self.scale });
            }
            MethodName::Vpt => return Adaptation::Comparison(Comparison::Vpt { tokens: self.tokens }),
            MethodName::VptDeep => return Adaptation::Comparison(Comparison::VptDeep { tokens: self.tokens }),
        };
        Adaptation::Method(method)
    }

    fn rep_adapters(&self, groups: usize) -> Adaptation {
        let nodes = |placement| {
            let blocks = self.blocks.clone();
            Adaptation::Adapters(Spec { placement, hidden: self.hidden, groups, scale: self.scale, blocks })
        };
        let at = |site| {
            let scale = f64::from(self.scale);
            Adaptation::Method(MethodSpec::RepAdapter { hidden: self.hidden, groups, scale, site })
        };
        match self.placement {
            PlacementName::Repblock => nodes(Placement::RepBlock),
            PlacementName::Repattn => nodes(Placement::RepAttn),
            PlacementName::BeforeAttention => at(Site::BeforeAttention),
            PlacementName::AfterAttention => at(Site::AfterAttention),
            PlacementName::BeforeMlp => at(Site::BeforeMlp),
            PlacementName::AfterMlp => at(Site::AfterMlp),
            PlacementName::EveryLinear => at(Site::EveryLinear),
        }
    }
}
