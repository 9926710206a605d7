//! Nonlinearities in standard operators.

use std::f32::consts::{FRAC_2_PI, SQRT_2};

use super::{Lowering, Value};
use crate::op::Activation;

impl Lowering<'_> {
    pub(super) fn activation(&mut self, name: &str, x: &str, activation: Activation) -> Value {
        match activation {
            Activation::Gelu => self.gelu(name, x),
            Activation::GeluTanh => self.gelu_tanh(name, x),
            Activation::QuickGelu => self.quick_gelu(name, x),
            Activation::Silu => {
                let gate = self.push("Sigmoid", &format!("{name}/gate"), &[x], Vec::new());
                self.push("Mul", name, &[x, &gate], Vec::new())
            }
            Activation::Relu => self.push("Relu", name, &[x], Vec::new()),
        }
    }

    /// `x (1 + erf(x / sqrt 2)) / 2`, in the order in which PyTorch's exporter writes it.
    fn gelu(&mut self, name: &str, x: &str) -> Value {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let root = self.scalar("constant/sqrt2", SQRT_2);
        let (one, half) = (self.scalar("constant/1.0", 1.0), self.scalar("constant/0.5", 0.5));
        let scaled = self.push("Div", &part("scaled"), &[x, &root], Vec::new());
        let erf = self.push("Erf", &part("erf"), &[&scaled], Vec::new());
        let sum = self.push("Add", &part("sum"), &[&erf, &one], Vec::new());
        let product = self.push("Mul", &part("product"), &[x, &sum], Vec::new());
        self.push("Mul", name, &[&product, &half], Vec::new())
    }

    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`.
    fn gelu_tanh(&mut self, name: &str, x: &str) -> Value {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let (slope, cubic) =
            (self.scalar("constant/sqrt2pi", FRAC_2_PI.sqrt()), self.scalar("constant/0.044715", 0.044_715));
        let (one, half) = (self.scalar("constant/1.0", 1.0), self.scalar("constant/0.5", 0.5));
        let square = self.push("Mul", &part("square"), &[x, x], Vec::new());
        let bend = self.push("Mul", &part("bend"), &[&square, &cubic], Vec::new());
        let bend = self.push("Add", &part("factor"), &[&bend, &one], Vec::new());
        let inner = self.push("Mul", &part("bent"), &[x, &bend], Vec::new());
        let inner = self.push("Mul", &part("inner"), &[&inner, &slope], Vec::new());
        let tanh = self.push("Tanh", &part("tanh"), &[&inner], Vec::new());
        let sum = self.push("Add", &part("sum"), &[&tanh, &one], Vec::new());
        let product = self.push("Mul", &part("product"), &[x, &sum], Vec::new());
        self.push("Mul", name, &[&product, &half], Vec::new())
    }

    /// `x sigmoid(1.702 x)`.
    fn quick_gelu(&mut self, name: &str, x: &str) -> Value {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let slope = self.scalar("constant/1.702", 1.702);
        let scaled = self.push("Mul", &part("scaled"), &[x, &slope], Vec::new());
        let gate = self.push("Sigmoid", &part("gate"), &[&scaled], Vec::new());
        self.push("Mul", name, &[x, &gate], Vec::new())
    }
}
