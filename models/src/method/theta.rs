//! A method's parameters over all hosts of a graph.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::host::{Affine, Host};
use super::matrix::Matrix;
use super::{Initial, Method, MethodError};
use crate::graph::Graph;
use crate::init::xavier_uniform;
use crate::op::Param;
use crate::tensor::Tensor;

/// Parameters by name, or their gradients.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Theta {
    values: BTreeMap<String, Matrix>,
}

impl Theta {
    /// The parameters of `tensors`, each a matrix or a vector.
    pub fn from_tensors<'a>(tensors: impl IntoIterator<Item = (&'a String, &'a Tensor)>) -> Self {
        let values = tensors.into_iter().map(|(name, tensor)| (name.clone(), Matrix::from_tensor(tensor))).collect();
        Self { values }
    }

    /// All zero.
    pub fn zeros(params: &[Param]) -> Self {
        let zero = |param: &Param| {
            let rows = param.shape.first().copied().unwrap_or(1);
            Matrix::zeros(rows, param.shape.iter().skip(1).product())
        };
        Self { values: params.iter().map(|param| (param.name.clone(), zero(param))).collect() }
    }

    /// The parameter `name`.
    ///
    /// # Errors
    /// When it is not there.
    pub fn get(&self, name: &str) -> Result<&Matrix, MethodError> {
        self.values.get(name).ok_or_else(|| MethodError::Missing { name: name.to_owned() })
    }

    /// The parameter `name` for writing.
    ///
    /// # Errors
    /// When it is not there.
    pub fn get_mut(&mut self, name: &str) -> Result<&mut Matrix, MethodError> {
        self.values.get_mut(name).ok_or_else(|| MethodError::Missing { name: name.to_owned() })
    }

    /// The parameter `suffix` of `host`.
    pub(super) fn of(&self, host: &Host, suffix: &str) -> Result<&Matrix, MethodError> {
        self.get(&host.param(suffix))
    }

    /// The same for writing.
    pub(super) fn of_mut(&mut self, host: &Host, suffix: &str) -> Result<&mut Matrix, MethodError> {
        self.get_mut(&host.param(suffix))
    }
}

/// The parameters of `method` on `hosts`, shared ones first.
///
/// # Errors
/// When sizes do not fit.
pub fn params(method: &dyn Method, hosts: &[Host]) -> Result<Vec<Param>, MethodError> {
    let mut params = method.shared(hosts);
    for host in hosts {
        params.extend(method.params(host)?);
    }
    Ok(params)
}

/// Fresh parameters of `method` on the hosts of `graph`, with which the model is still the backbone. The same `seed` gives
/// the same ones on every machine.
///
/// # Errors
/// When a weight is missing or sizes do not fit.
pub fn fresh(
    method: &dyn Method,
    graph: &Graph,
    hosts: &[Host],
    seed: u64,
) -> Result<BTreeMap<String, Tensor>, MethodError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut tensors = BTreeMap::new();
    for param in method.shared(hosts) {
        let tensor = drawn(&param, method.initial(&param, None), &mut rng)?;
        tensors.insert(param.name, tensor);
    }
    for host in hosts {
        let frozen = Affine::of(graph, host)?;
        for param in method.params(host)? {
            let tensor = drawn(&param, method.initial(&param, Some((host, &frozen))), &mut rng)?;
            tensors.insert(param.name, tensor);
        }
    }
    Ok(tensors)
}

fn drawn(param: &Param, initial: Initial, rng: &mut ChaCha8Rng) -> Result<Tensor, MethodError> {
    Ok(match initial {
        Initial::Constant(value) => Tensor::full(param.shape.as_slice(), value as f32)?,
        Initial::Values(values) => {
            Tensor::new(param.shape.as_slice(), values.into_iter().map(|value| value as f32).collect())?
        }
        Initial::Xavier => xavier_uniform(&param.shape, rng)?,
    })
}

/// The weights and biases of all hosts with the method in them, by name; `strength` in [0, 1] is how much of it.
///
/// # Errors
/// When a parameter or a weight is missing, or a merged weight is not finite.
pub fn merged(
    method: &dyn Method,
    graph: &Graph,
    hosts: &[Host],
    theta: &Theta,
    strength: f64,
) -> Result<BTreeMap<String, Tensor>, MethodError> {
    let of_host = |host| merged_host(method, graph, host, theta, strength);
    let merged: Vec<[(String, Tensor); 2]> = hosts.par_iter().map(of_host).collect::<Result<_, _>>()?;
    Ok(merged.into_iter().flatten().collect())
}

/// The weight and the bias of one host with the method in them.
fn merged_host(
    method: &dyn Method,
    graph: &Graph,
    host: &Host,
    theta: &Theta,
    strength: f64,
) -> Result<[(String, Tensor); 2], MethodError> {
    let frozen = Affine::of(graph, host)?;
    let full = method.merge(host, theta, &frozen)?;
    let merged = if strength == 1.0 { full } else { frozen.towards(&full, strength) };
    let shape = |suffix: &str, otherwise: &[usize]| {
        graph.weights.get(&host.param(suffix)).map_or(otherwise.to_vec(), |tensor| tensor.shape().to_vec())
    };
    let weight = merged.weight.to_tensor(&shape("weight", &[host.out_features, host.in_features]))?;
    let bias = Matrix::column(merged.bias).to_tensor(&shape("bias", &[host.out_features]))?;
    if !weight.values().iter().chain(bias.values()).all(|value| value.is_finite()) {
        return Err(MethodError::NotFinite { host: host.name.clone() });
    }
    Ok([(host.param("weight"), weight), (host.param("bias"), bias)])
}

/// The gradients of the method's parameters from those of all hosts' merged weights and biases, `gradients` by name.
///
/// # Errors
/// When a parameter, a weight or a gradient is missing.
pub fn pulled_back(
    method: &dyn Method,
    graph: &Graph,
    hosts: &[Host],
    theta: &Theta,
    gradients: &BTreeMap<String, Tensor>,
) -> Result<BTreeMap<String, Tensor>, MethodError> {
    let (params, shared) = (params(method, hosts)?, method.shared(hosts));
    let of = |name: String| gradients.get(&name).ok_or(MethodError::Missing { name });
    let of_host = |host: &Host| {
        let frozen = Affine::of(graph, host)?;
        let weight = Matrix::from_tensor(of(host.param("weight"))?);
        let bias = Matrix::from_tensor(of(host.param("bias"))?).values().to_vec();
        let own: Vec<Param> = shared.iter().cloned().chain(method.params(host)?).collect();
        let mut gradient = Theta::zeros(&own);
        method.pull_back(host, theta, &frozen, &Affine { weight, bias }, &mut gradient)?;
        Ok(gradient)
    };
    // Summed in the hosts' order, so that the sum is the same on any number of threads.
    let mut sums = Theta::zeros(&params);
    for gradient in hosts.par_iter().map(of_host).collect::<Result<Vec<_>, MethodError>>()? {
        for (name, of_host) in &gradient.values {
            sums.get_mut(name)?.add_scaled(1.0, of_host);
        }
    }
    let tensor = |param: &Param| Ok((param.name.clone(), sums.get(&param.name)?.to_tensor(&param.shape)?));
    params.iter().map(tensor).collect()
}

/// How far `merged`, the hosts' weights in float32, are from the method's definition over activations in float64: the largest
/// difference of a layer's outputs, relative to the largest of them, for one made-up input each.
///
/// # Errors
/// When a parameter or a weight is missing.
pub fn departure(
    method: &dyn Method,
    graph: &Graph,
    hosts: &[Host],
    theta: &Theta,
    strength: f64,
    merged: &BTreeMap<String, Tensor>,
) -> Result<f64, MethodError> {
    let of = |name: String| merged.get(&name).ok_or(MethodError::Missing { name }).map(Matrix::from_tensor);
    let mut worst = 0.0f64;
    for host in hosts {
        let frozen = Affine::of(graph, host)?;
        let len = if host.in_features == 1 { host.out_features } else { host.in_features };
        let x: Vec<f64> = (0..len).map(|i| (1.0 + 1.7 * i as f64).sin()).collect();
        let plain = frozen.apply(&x);
        let adapted = method.forward(host, theta, &frozen, &x)?;
        let [weight, bias] = host.weights();
        let stored = Affine { weight: of(weight)?, bias: of(bias)?.values().to_vec() };
        let mut largest = f64::MIN_POSITIVE;
        let mut difference = 0.0f64;
        for ((got, plain), adapted) in stored.apply(&x).iter().zip(&plain).zip(&adapted) {
            let expected = plain + strength * (adapted - plain);
            largest = largest.max(expected.abs());
            difference = difference.max((got - expected).abs());
        }
        worst = worst.max(difference / largest);
    }
    Ok(worst)
}
