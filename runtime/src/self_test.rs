//! The proof that this machine computes what the desktop computed.

use tract_core::tract_linalg::isa;

use crate::golden::tensor_sha256;
use crate::{Bundle, Error, Model};

/// The largest difference of a logit that passes, relative to the case's largest logit, where the file asks for no other.
/// Kernels add in an order of their own, which moves float32 results by some 1e-5; a wrong channel order or resize moves them
/// by far more.
pub const LOGIT_TOLERANCE: f32 = 1e-3;

/// How one golden case came out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CaseReport {
    /// Whether preprocessing gave the very same tensor.
    pub tensor_equal: bool,
    /// The largest absolute difference of a logit, relative to the largest absolute logit of the case.
    pub logit_difference: f32,
    /// The largest such difference that passes: the file's own, or 1e-3.
    pub tolerance: f32,
}

impl CaseReport {
    /// Whether the tensor is the same and the logits are within the tolerance.
    pub fn passed(&self) -> bool {
        self.tensor_equal && self.logit_difference <= self.tolerance
    }
}

/// How all golden cases of a file came out, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfTestReport {
    /// One report a case, in the file's order.
    pub cases: Vec<CaseReport>,
    /// The kernels that multiply the model's matrices here, as [`Model::kernels`](crate::Model::kernels) gives them.
    pub kernels: Vec<String>,
    /// The processor's architecture, and what the engine found of its extensions and has kernels for.
    pub instructions: Vec<&'static str>,
}

impl SelfTestReport {
    /// Whether every case passed.
    pub fn passed(&self) -> bool {
        self.failed() == 0
    }

    /// How many cases did not pass.
    pub fn failed(&self) -> usize {
        self.cases.iter().filter(|case| !case.passed()).count()
    }

    /// The largest relative logit difference of any case.
    pub fn logit_difference(&self) -> f32 {
        self.cases.iter().map(|case| case.logit_difference).fold(0.0, f32::max)
    }
}

/// Runs the golden cases of `bundle` through `model`.
pub(crate) fn self_test(model: &Model, bundle: &Bundle) -> Result<SelfTestReport, Error> {
    if bundle.golden.is_empty() {
        return Err(Error::NoGoldenCases);
    }
    let tolerance = bundle.golden_tolerance.unwrap_or(LOGIT_TOLERANCE);
    let run = |case: &crate::GoldenCase| {
        let tensor = bundle.preprocessing.apply(&case.picture()?);
        let tensor_equal = tensor_sha256(&tensor) == case.tensor_sha256();
        let logits = model.run(&tensor)?;
        let largest = case.logits().iter().fold(f32::MIN_POSITIVE, |largest, logit| largest.max(logit.abs()));
        let difference = logits.iter().zip(case.logits()).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        Ok(CaseReport { tensor_equal, logit_difference: difference / largest, tolerance })
    };
    Ok(SelfTestReport {
        cases: bundle.golden.iter().map(run).collect::<Result<_, Error>>()?,
        kernels: model.kernels(),
        instructions: isa::native().iter().map(|instructions| instructions.name()).collect(),
    })
}
