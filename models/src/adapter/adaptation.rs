//! What a backbone is adapted with: RepAdapters that stand in the graph until they are folded, or a method that changes
//! weights.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::insert::{self, insert};
use super::{AdapterError, Comparison, METHOD, Spec, is_head, params_where, trainable};
use crate::graph::Graph;
use crate::method::{self, Host, Method, MethodError, MethodSpec, Theta};
use crate::tensor::Tensor;

/// What a backbone is adapted with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Adaptation {
    /// RepAdapters as nodes of the graph, with dropout while they are trained.
    Adapters(Spec),
    /// A method over the backbone's weights.
    Method(MethodSpec),
    /// A method that stays in the graph, to compare with.
    Comparison(Comparison),
}

/// A method on the layers of one graph.
#[derive(Debug)]
pub struct Attached {
    /// The method.
    pub method: Box<dyn Method>,
    /// The layers that it changes; all have a bias.
    pub hosts: Vec<Host>,
    /// Its parameters.
    pub theta: BTreeMap<String, Tensor>,
}

/// A graph that is to be trained.
#[derive(Debug)]
pub struct Adapted {
    /// The operators and their weights.
    pub graph: Graph,
    /// The weights of the graph whose gradients are needed.
    pub trainable: BTreeSet<String>,
    /// The method that those gradients are for, where it is one with parameters of its own.
    pub attached: Option<Attached>,
}

impl Adapted {
    /// The number of parameters that training changes, the head's among them.
    pub fn trained_parameters(&self) -> usize {
        let count = |name: &String| self.graph.weights.get(name).map_or(0, Tensor::len);
        match &self.attached {
            None => self.trainable.iter().map(count).sum(),
            Some(attached) => {
                let head: usize = self.trainable.iter().filter(|name| name.starts_with("head.")).map(count).sum();
                head + attached.theta.values().map(Tensor::len).sum::<usize>()
            }
        }
    }
}

impl Adaptation {
    /// The method's name.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Adapters(_) => METHOD,
            Self::Method(spec) => spec.name(),
            Self::Comparison(comparison) => comparison.name(),
        }
    }

    /// `graph`, which has its head, made ready to train; it still computes what it did. The same `seed` gives the same
    /// parameters on every machine.
    ///
    /// # Errors
    /// When the graph has no such layers, or sizes do not fit it.
    pub fn begin(&self, graph: &Graph, seed: u64) -> Result<Adapted, AdapterError> {
        match self {
            Self::Adapters(spec) => {
                let graph = insert(graph, spec, seed)?;
                let trainable = trainable(&graph);
                Ok(Adapted { graph, trainable, attached: None })
            }
            Self::Comparison(comparison) => {
                let mut graph = comparison.place(graph)?;
                let own = params_where(&graph, |node| comparison.is_own(&node.name))?;
                insert::fill(&mut graph, &own, seed)?;
                let head = params_where(&graph, is_head)?;
                let trainable = own.into_iter().chain(head).map(|param| param.name).collect();
                Ok(Adapted { graph, trainable, attached: None })
            }
            Self::Method(spec) => {
                let mut trainable = spec.tuned(graph)?;
                trainable.extend(params_where(graph, is_head)?.into_iter().map(|param| param.name));
                let Some(method) = spec.method() else {
                    return Ok(Adapted { graph: graph.clone(), trainable, attached: None });
                };
                let (graph, hosts) = with_hosts(graph, method.as_ref())?;
                let theta = method::fresh(method.as_ref(), &graph, &hosts, seed)?;
                trainable.extend(hosts.iter().flat_map(Host::weights));
                Ok(Adapted { graph, trainable, attached: Some(Attached { method, hosts, theta }) })
            }
        }
    }
}

/// The method's layers, all with a bias.
pub(super) fn with_hosts(graph: &Graph, method: &dyn Method) -> Result<(Graph, Vec<Host>), MethodError> {
    let hosts = method::hosts(graph, method.roles(), method.name())?;
    Ok((method::with_biases(graph, &hosts)?, hosts))
}

/// The graph, which has its head, with the weights that `tensors` hold of `spec`, in the given strength, and how far the
/// merged layers, stored in float32, depart from the method's definition in float64.
///
/// # Errors
/// When `tensors` are not exactly those of the method and the head, or a merged weight is not finite.
pub(super) fn merge(
    spec: &MethodSpec,
    graph: &Graph,
    tensors: &BTreeMap<String, Tensor>,
    strength: f64,
) -> Result<(Graph, f64), AdapterError> {
    let head = params_where(graph, is_head)?;
    let Some(method) = spec.method() else {
        let tuned = spec.tuned(graph)?;
        let params = graph.params()?.into_iter().flatten().filter(|param| tuned.contains(&param.name));
        let mut merged = graph.clone();
        for (name, tensor) in super::file::checked(tensors, params.chain(head).collect())? {
            let tuned = match merged.weights.get(&name) {
                Some(old) if strength != 1.0 && !name.starts_with("head.") => between(old, &tensor, strength)?,
                _ => tensor,
            };
            merged.weights.insert(name, tuned);
        }
        return Ok((merged, 0.0));
    };
    let (mut merged, hosts) = with_hosts(graph, method.as_ref())?;
    let params = method::params(method.as_ref(), &hosts)?;
    let own: BTreeSet<String> = params.iter().map(|param| param.name.clone()).collect();
    let checked = super::file::checked(tensors, params.into_iter().chain(head).collect())?;
    let theta = Theta::from_tensors(checked.iter().filter(|(name, _)| own.contains(*name)));
    let weights = method::merged(method.as_ref(), &merged, &hosts, &theta, strength)?;
    let departure = method::departure(method.as_ref(), &merged, &hosts, &theta, strength, &weights)?;
    merged.weights.extend(weights);
    merged.weights.extend(checked.into_iter().filter(|(name, _)| !own.contains(name)));
    Ok((merged, departure))
}

/// `strength` of the way from `old` to `new`.
fn between(old: &Tensor, new: &Tensor, strength: f64) -> Result<Tensor, AdapterError> {
    let mix = |(&old, &new): (&f32, &f32)| (f64::from(old) + strength * (f64::from(new) - f64::from(old))) as f32;
    let values = old.values().iter().zip(new.values()).map(mix).collect();
    Ok(Tensor::new(new.shape(), values)?)
}
