//! Operators of our own in tract's graphs, and the rules that put them there.
//!
//! The rules read tract's decluttered form, to which it brings the files of every exporter, so that a vision transformer
//! gains wherever its file comes from. What no rule recognises stays with tract.

mod attention;
mod axes;
mod convolution;
mod depthwise;
mod following;
mod halves;
mod int8;
mod layer_norm;
mod linear;
mod matching;
mod merging;
mod patches;
mod pattern;
mod place;
mod rows;
mod spare;
mod view;

use tract_core::internal::*;
use tract_core::model::Rewriter;
use tract_core::optim::Optimizer;

pub(crate) use halves::put_halves;
pub(crate) use int8::register;

use crate::{HalfProducts, kernels};

/// Whether this machine has kernels of ours.
pub(crate) fn are_ours() -> bool {
    kernels::name().is_some()
}

/// Declutters a graph, and replaces what this machine has kernels of ours for; linear layers in sixteen bits multiply as `halves` says.
pub(crate) fn declutter(model: &mut TypedModel, halves: HalfProducts) -> TractResult<()> {
    if !are_ours() {
        return model.declutter();
    }
    model.prop_consts()?;
    Rewriter::default()
        .with_rule_for("patches", patches::rule)
        .with_rule_for("one place", place::slice)
        .rewrite(&(), model)?;
    simplify(model)?;
    recognise(model, halves)?;
    model.declutter()?;
    recognise(model, halves)?;
    for rules in [
        Rewriter::default().with_rule_for("merged tokens", merging::rule),
        Rewriter::default().with_rule_for("similar tokens", matching::rule),
        Rewriter::default().with_rule_for("depthwise convolution", depthwise::rule),
        Rewriter::default().with_rule_for("weights that no layer took", halves::rule),
    ] {
        rules.rewrite(&(), model)?;
    }
    Ok(())
}

/// Puts in the layers that vision transformers are made of. A norm is recognised by its scaling, which must not have gone into anything
/// else, and attention by its own: the rules of one pass do not see what another has taken away.
fn recognise(model: &mut TypedModel, halves: HalfProducts) -> TractResult<()> {
    for rules in [
        Rewriter::default().with_rule_for("layer norm", layer_norm::rule),
        Rewriter::default().with_rule_for("attention", attention::rule),
    ] {
        rules.rewrite(&(), model)?;
    }
    Rewriter::default()
        .with_rule_for("linear layer", linear::rule)
        .with_rule_for("quantised linear layer", int8::rule)
        .rewrite(&halves, model)
}

/// Declutters each operator for itself. The passes of tract that are left out move axes and slices through the graph and search
/// all of it for each move: they take most of the time that a file takes to open, and little in a graph whose layers are single
/// operators.
fn simplify(model: &mut TypedModel) -> TractResult<()> {
    const MOVES: [&str; 2] = ["ChangeAxes", "PushSliceUp"];
    let mut optimizer = Optimizer::declutter();
    optimizer.passes.retain(|pass| !MOVES.contains(&format!("{pass:?}").as_str()));
    optimizer.optimize(model)
}

/// The name of the kernel that `node` runs on, if it is an operator of ours that has one.
pub(crate) fn kernel(node: &TypedNode) -> Option<&'static str> {
    if let Some(layer) = node.op_as::<int8::QuantizedLinear>() {
        return Some(layer.kernel());
    }
    if let Some(layer) = node.op_as::<linear::Linear>() {
        return layer.kernel();
    }
    let ours = node.op_is::<attention::Attention>()
        || node.op_is::<depthwise::Depthwise>()
        || node.op_is::<layer_norm::LayerNorm>();
    kernels::name().filter(|_| ours)
}
