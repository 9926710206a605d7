//! Token Merging in standard operators.

use super::super::Batch;
use super::super::proto::DataType;
use super::attention::QKV;
use super::{Lowering, Value, int, ints};
use crate::op::Sides;

/// What the nodes read that merge by one matching.
struct Parts {
    /// The tokens that stay, `[N, L - merged]`, and those that go, `[N, merged]`.
    stay: Value,
    source: Value,
    /// 1 where a token that goes meets its new place, `[N, L - merged, merged]`.
    met: Value,
}

impl Lowering<'_> {
    /// The matching of an `Op::MatchTokens { merged, protected, num_heads }` over `x` of `shape` a picture.
    pub(super) fn match_tokens(&mut self, name: &str, x: &str, op: [usize; 3], shape: &[usize]) -> Value {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let ([merged, protected, heads], &[len, width]) = (op, shape) else { return x.to_owned() };
        let Sides { a, b } = Sides::of(len, protected);
        let kept = a.len() - merged;
        let (best, to) = self.most_alike(name, x, [len, width / 3, heads], [&a, &b]);

        let along = |attributes: &[(&str, i64)]| attributes.iter().map(|&(name, value)| int(name, value)).collect();
        let order = part("order");
        let count = self.ints(&part("a/count"), &[1], &[a.len() as i64]);
        let sorted = vec![part("sorted"), order.clone()];
        self.push_many("TopK", &part("sort"), &[&best, &count], sorted, along(&[("axis", 1), ("largest", 1)]));
        let table = self.places(&part("a"), &[a.len()], &a);
        let mut parts = Vec::new();
        let going = match kept {
            0 => order,
            _ => {
                let counts = self.ints(&part("counts"), &[2], &[merged as i64, kept as i64]);
                let (going, others) = (part("going"), part("others"));
                let both = vec![going.clone(), others.clone()];
                self.push_many("Split", &part("split"), &[&order, &counts], both, along(&[("axis", 1)]));
                // Sorted by place, so that what processors see as more or less alike decides nothing about the order.
                let count = self.ints(&part("kept/count"), &[1], &[kept as i64]);
                let by_place = vec![part("by_place"), part("by_place/order")];
                let attributes = along(&[("axis", 1), ("largest", 0)]);
                self.push_many("TopK", &part("sort_by_place"), &[&others, &count], by_place, attributes);
                parts.push(self.push("Gather", &part("kept"), &[&table, &part("by_place")], along(&[("axis", 0)])));
                going
            }
        };
        if protected > 0 {
            let first: Vec<usize> = (0..protected).collect();
            parts.insert(0, self.fixed_places(name, x, "protected", &first));
        }
        parts.push(self.fixed_places(name, x, "b", &b));
        parts.push(self.push("Gather", &part("source"), &[&table, &going], along(&[("axis", 0)])));
        let to = self.push("GatherElements", &part("to"), &[&to, &going], along(&[("axis", 1)]));
        let before = self.ints(&part("before"), &[], &[(protected + kept) as i64]);
        parts.push(self.push("Add", &part("target"), &[&to, &before], Vec::new()));
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.push("Concat", name, &parts, along(&[("axis", 1)]))
    }

    /// For each token of A how alike the most similar one of B is, and which it is, both `[N, |A|]`.
    fn most_alike(
        &mut self,
        name: &str,
        x: &str,
        [len, dim, heads]: [usize; 3],
        sides: [&[usize]; 2],
    ) -> (Value, Value) {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let keys = format!("{}/k", self.split(name, x, &QKV, dim));
        let keys = self.reshape(&part("keys"), &keys, &[len, heads, dim / heads]);
        let mean = self.push("ReduceMean", &part("mean"), &[&keys], vec![ints("axes", &[2]), int("keepdims", 0)]);
        let unit = self.unit(name, &mean);
        let [a, b] = [("a", sides[0]), ("b", sides[1])].map(|(side, places)| {
            let places = self.places(&part(side), &[places.len()], places);
            self.push("Gather", &part(&format!("{side}/unit")), &[&unit, &places], vec![int("axis", 1)])
        });
        let b = self.push("Transpose", &part("b/columns"), &[&b], vec![ints("perm", &[0, 2, 1])]);
        let alike = self.push("MatMul", &part("alike"), &[&a, &b], Vec::new());
        let best = self.push("ReduceMax", &part("best"), &[&alike], vec![ints("axes", &[2]), int("keepdims", 0)]);
        let which = self.push("ArgMax", &part("which"), &[&alike], vec![int("axis", 2), int("keepdims", 0)]);
        (best, which)
    }

    /// The sizes behind an `Op::MergeSizes`, whose `inputs` are a matching of `shape` and perhaps the sizes until then.
    pub(super) fn merge_sizes(&mut self, name: &str, inputs: &[&str], merged: usize, shape: &[usize]) -> Value {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let &[matching, ref sizes @ ..] = inputs else { return name.to_owned() };
        let left = shape.first().map_or(0, |matched| matched - 2 * merged);
        let parts = self.matched(matching, left, merged);
        let sizes = sizes.first().map(|sizes| self.sizes(sizes, &parts));
        let (own, gained) = match sizes {
            Some([stay, source]) => {
                let source = self.reshape(&part("column"), &source, &[merged, 1]);
                let gained = self.push("MatMul", &part("column/sum"), &[&parts.met, &source], Vec::new());
                (stay, self.reshape(&part("gained"), &gained, &[left]))
            }
            None => {
                let axes = self.ints("constant/[2]", &[1], &[2]);
                let gained = self.push("ReduceSum", &part("gained"), &[&parts.met, &axes], vec![int("keepdims", 0)]);
                (self.scalar("constant/1.0", 1.0), gained)
            }
        };
        self.push("Add", name, &[&own, &gained], Vec::new())
    }

    /// The tokens behind an `Op::MergeTokens`, from `shape` to `output`: those that stay by their share of the new size, plus
    /// those that go by theirs, as a product with a matrix that is 0 but at `merged` places.
    pub(super) fn merge_tokens(&mut self, name: &str, inputs: &[&str], shape: &[usize], output: &[usize]) -> Value {
        let part = |suffix: &str| format!("{name}/{suffix}");
        let (&[x, matching, total, ref sizes @ ..], &[len, _], &[left, _]) = (inputs, shape, output) else {
            return name.to_owned();
        };
        let merged = len - left;
        let parts = self.matched(matching, left, merged);
        let sizes = sizes.first().map(|sizes| self.sizes(sizes, &parts));
        let total = self.reshape(&part("total"), total, &[left, 1]);
        let (own, going) = match sizes {
            Some([stay, source]) => {
                let source = self.reshape(&part("source/size"), &source, &[1, merged]);
                let going = self.push("Mul", &part("going"), &[&parts.met, &source], Vec::new());
                (self.reshape(&part("stay/size"), &stay, &[left, 1]), going)
            }
            None => (self.scalar("constant/1.0", 1.0), parts.met.clone()),
        };
        let share = self.push("Div", &part("share"), &[&own, &total], Vec::new());
        let shares = self.push("Div", &part("shares"), &[&going, &total], Vec::new());
        let [stay, source] =
            [("stay", &parts.stay, left), ("source", &parts.source, merged)].map(|(which, rows, count)| {
                let rows = self.reshape(&part(&format!("{which}/rows")), rows, &[count, 1]);
                self.push("GatherND", &part(which), &[x, &rows], vec![int("batch_dims", 1)])
            });
        let stay = self.push("Mul", &part("stay/scaled"), &[&stay, &share], Vec::new());
        let taken_in = self.push("MatMul", &part("taken_in"), &[&shares, &source], Vec::new());
        self.push("Add", name, &[&stay, &taken_in], Vec::new())
    }

    /// What a matching says, once for all that read it.
    fn matched(&mut self, matching: &str, left: usize, merged: usize) -> Parts {
        let [stay, source, target, met] =
            ["stay", "source", "target", "met"].map(|which| format!("{matching}/of/{which}"));
        if self.constants.insert(met.clone()) {
            let part = |suffix: &str| format!("{matching}/of/{suffix}");
            let counts = self.ints(&part("counts"), &[3], &[left, merged, merged].map(|count| count as i64));
            let outputs = vec![stay.clone(), source.clone(), target.clone()];
            self.push_many("Split", &part("split"), &[matching, &counts], outputs, vec![int("axis", 1)]);
            let target = self.reshape(&part("target/row"), &target, &[1, merged]);
            let places: Vec<usize> = (0..left).collect();
            let places = self.places(&format!("constant/places[{left}]"), &[1, left, 1], &places);
            let met = self.push("Equal", &part("meets"), &[&places, &target], Vec::new());
            self.push("Cast", &part("met"), &[&met], vec![int("to", DataType::Float as i64)]);
        }
        Parts { stay, source, met }
    }

    /// The sizes of the tokens that stay and of those that go, once for all that read them.
    fn sizes(&mut self, sizes: &str, parts: &Parts) -> [Value; 2] {
        [&parts.stay, &parts.source].map(|places| {
            let value = format!("{places}/{sizes}");
            if self.constants.insert(value.clone()) {
                self.push("GatherElements", &value, &[sizes, places], vec![int("axis", 1)]);
            }
            value
        })
    }

    /// Places that depend on no picture, once a picture of `x`: `[N, count]`.
    fn fixed_places(&mut self, name: &str, x: &str, which: &str, places: &[usize]) -> Value {
        let row = self.places(&format!("{name}/{which}/row"), &[1, places.len()], places);
        match self.batch {
            Batch::One => row,
            Batch::Free => self.repeated(&format!("{name}/{which}"), x, &row, &[places.len()]),
        }
    }

    fn places(&mut self, name: &str, shape: &[usize], places: &[usize]) -> Value {
        let places: Vec<i64> = places.iter().map(|&place| place as i64).collect();
        self.ints(name, shape, &places)
    }
}
