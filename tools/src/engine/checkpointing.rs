//! Activation checkpointing (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"): of the activations that the
//! backward reads, only checkpoints outlive the forward; the others are computed again, segment by segment, when the backward
//! comes to them.

use edge_vit_models::{Node, NodeId};

/// Within one part in this many, two amounts of memory are about the same.
const ABOUT: usize = 16;

/// A node that is computed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recompute {
    /// The node.
    pub node: NodeId,
    /// The nodes whose outputs nothing reads behind this one.
    pub done: Vec<NodeId>,
}

/// What outlives the forward, and what the backward computes again.
#[derive(Debug, Clone)]
pub(super) struct Checkpointing {
    /// Whether the output outlives the forward, by graph position.
    pub(super) kept: Vec<bool>,
    /// What is computed again, in this order, before the backward of the node at each graph position.
    pub(super) recompute: Vec<Vec<Recompute>>,
}

impl Checkpointing {
    /// The checkpoints of a graph of `nodes` whose outputs have `lens` values and are `saved` for the backward.
    pub(super) fn new(nodes: &[Node], lens: &[usize], saved: &[bool]) -> Self {
        let checkpoints = choose(&candidates(nodes), lens, saved);
        let mut kept = saved.to_vec();
        let mut recompute = vec![Vec::new(); nodes.len()];
        // The backward begins with what is behind the last checkpoint: that is kept.
        for segment in checkpoints.windows(2) {
            let &[from, to] = segment else { continue };
            kept[from + 1..to].fill(false);
            let again = segment_again(nodes, from, to, saved);
            kept[from] |= !again.is_empty();
            recompute[to] = again;
        }
        Self { kept, recompute }
    }
}

/// The places where a graph can be cut: the nodes behind which no output is read but their own. The input is the first.
fn candidates(nodes: &[Node]) -> Vec<NodeId> {
    let mut last_use: Vec<NodeId> = (0..nodes.len()).collect();
    for (id, node) in nodes.iter().enumerate() {
        node.inputs.iter().for_each(|&input| last_use[input] = id);
    }
    let (mut found, mut read_until) = (Vec::new(), 0);
    for (id, &last) in last_use.iter().enumerate() {
        if read_until <= id && id + 1 < nodes.len() {
            found.push(id);
        }
        read_until = read_until.max(last);
    }
    found
}

/// Those of `candidates`, the first always, that leave the least in memory: the checkpoints and the saved activations of the
/// largest segment. As in the paper's third algorithm, every size of a segment is tried as a bound on all, and checkpoints are set
/// as far apart as the bound allows. Where two leave about as little, the one whose last segment is longer is taken: of that nothing
/// is computed again.
fn choose(candidates: &[NodeId], lens: &[usize], saved: &[bool]) -> Vec<NodeId> {
    let count = lens.len();
    // The saved values up to each position.
    let mut sums = Vec::with_capacity(count);
    let mut sum = 0usize;
    for (&len, &saved) in lens.iter().zip(saved) {
        sum += if saved { len } else { 0 };
        sums.push(sum);
    }
    let between = |from: NodeId, to: NodeId| sums[to - 1] - sums[from];
    let ends = || candidates.iter().copied().chain([count]);
    let mut bounds: Vec<usize> = candidates
        .iter()
        .flat_map(|&from| ends().filter(move |&to| to > from).map(move |to| between(from, to)))
        .collect();
    bounds.sort_unstable();
    bounds.dedup();
    let within = |bound: usize| {
        let mut chosen = vec![0];
        loop {
            let &from = chosen.last()?;
            let to = ends().rfind(|&to| to > from && between(from, to) <= bound)?;
            if to == count {
                return Some(chosen);
            }
            chosen.push(to);
        }
    };
    let memory = |chosen: &Vec<NodeId>, bound: usize| chosen.iter().map(|&at| lens[at]).sum::<usize>() + bound;
    let plans: Vec<(usize, Vec<NodeId>)> =
        bounds.into_iter().filter_map(|bound| within(bound).map(|chosen| (memory(&chosen, bound), chosen))).collect();
    let least = plans.iter().map(|(memory, _)| *memory).min().unwrap_or(0);
    let good = plans.into_iter().filter(|(memory, _)| memory - least <= least / ABOUT);
    good.min_by_key(|(memory, chosen)| (chosen.last().copied(), *memory)).map_or_else(|| vec![0], |(_, chosen)| chosen)
}

/// The nodes between `from` and `to` whose outputs are saved, and those that they are computed from.
fn segment_again(nodes: &[Node], from: NodeId, to: NodeId, saved: &[bool]) -> Vec<Recompute> {
    let mut needed = vec![false; to - from];
    // The readers of each needed output among the nodes of the segment; in descending order the last comes first.
    let mut last_reader: Vec<Option<NodeId>> = vec![None; to - from];
    for id in (from + 1..to).rev() {
        if !(saved[id] || needed[id - from]) {
            continue;
        }
        needed[id - from] = true;
        for &input in nodes[id].inputs.iter().filter(|&&input| input > from) {
            needed[input - from] = true;
            last_reader[input - from].get_or_insert(id);
        }
    }
    let again = (from + 1..to).filter(|&id| needed[id - from]);
    let done = |reader: NodeId| {
        let read = (from + 1..to).filter(|&id| last_reader[id - from] == Some(reader) && !saved[id]);
        read.collect()
    };
    again.map(|node| Recompute { node, done: done(node) }).collect()
}
