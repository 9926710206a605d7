//! One chunk of pictures on its way through the graph, forward and back.

use edge_vit_models::Op;

use super::attention::Attention;
use super::attention_pool::AttentionPool;
use super::depthwise::Depthwise;
use super::merging::{self, Matching};
use super::model::{Fixed, Model};
use super::patch_embed::Patches;
use super::pool::Pool;
use super::rep_adapter::{Gradients, RepAdapter};
use super::unfold::Unfold;
use super::{
    Real, activation, cross_entropy, heads, int8, layer_norm, linear, residual, response_norm, rows, tokens, vector,
};
use crate::engine::Noise;

/// What is shown a node, its first input and its output.
pub(super) type See<'a, T> = &'a mut dyn FnMut(usize, &[T], &[T]);

/// The buffers of a walk. A buffer that is not held is empty.
#[derive(Debug)]
pub(super) struct Pass<'a, T: Real> {
    model: &'a Model<T>,
    pool: &'a mut Pool<T>,
    /// The chunk's first picture, counted through the batch.
    first: usize,
    pictures: usize,
    /// What is dropped; `None` outside training.
    noise: Option<&'a Noise>,
    /// The outputs of the nodes.
    values: Vec<Vec<T>>,
    /// What the forward of a node leaves to its backward: a LayerNorm's moments, an adapter's hidden units.
    extras: Vec<Vec<T>>,
    /// The gradients of the nodes' outputs.
    gradients: Vec<Vec<T>>,
    /// The gradients of the nodes' weights.
    weight_gradients: Vec<Vec<Vec<T>>>,
}

/// The losses of a chunk's pictures added up, and the gradients in the order of [`Model::trained`].
#[derive(Debug)]
pub(super) struct Learned<T> {
    pub(super) loss: f64,
    pub(super) gradients: Vec<Vec<T>>,
}

impl<'a, T: Real> Pass<'a, T> {
    /// A walk for `pictures` pictures from the batch's picture `first` on.
    pub(super) fn new(
        model: &'a Model<T>,
        pool: &'a mut Pool<T>,
        first: usize,
        pictures: usize,
        noise: Option<&'a Noise>,
    ) -> Self {
        let empty = || vec![Vec::new(); model.nodes.len()];
        let weight_gradients = vec![Vec::new(); model.nodes.len()];
        let (values, extras, gradients) = (empty(), empty(), empty());
        Self { model, pool, first, pictures, noise, values, extras, gradients, weight_gradients }
    }

    /// The output for the chunk's `input`. `see` is shown every node's first input and its output.
    pub(super) fn infer(mut self, input: &[f32], see: See<'_, T>) -> Vec<T> {
        self.forward(input, false, see)
    }

    /// The loss and its gradient for the chunk's `input` and `targets`; the gradient is `share` times that of the losses'
    /// sum.
    pub(super) fn learn(mut self, input: &[f32], targets: &[f32], share: T) -> Learned<T> {
        let mut logits = self.forward(input, true, &mut |_, _, _| ());
        let loss = cross_entropy::in_place(&mut logits, targets, self.model.plan.classes(), share);
        let last = self.model.nodes.len() - 1;
        self.hand_down(last, logits);
        for id in (0..=last).rev() {
            let (value, gradient) = (std::mem::take(&mut self.values[id]), std::mem::take(&mut self.gradients[id]));
            self.give(value);
            if !gradient.is_empty() {
                self.recompute(id);
                self.backward(id, gradient);
            }
            let extra = std::mem::take(&mut self.extras[id]);
            self.give(extra);
        }
        Learned { loss, gradients: self.weight_gradients.into_iter().flatten().collect() }
    }

    fn give(&mut self, buffer: Vec<T>) {
        if !buffer.is_empty() {
            self.pool.give(buffer);
        }
    }

    /// Runs all nodes and returns the last one's output; with `keep`, what the backward reads stays.
    fn forward(&mut self, input: &[f32], keep: bool, see: See<'_, T>) -> Vec<T> {
        let (model, last) = (self.model, self.model.nodes.len() - 1);
        for id in 0..=last {
            self.values[id] = self.output(id, input, keep);
            let first = model.nodes[id].inputs.first().map_or(&[][..], |&read| &self.values[read]);
            see(id, first, &self.values[id]);
            for &read in model.nodes[id].inputs.iter().chain([&id]) {
                if model.plan.last_use[read] == id && read != last && !(keep && model.plan.kept[read]) {
                    let value = std::mem::take(&mut self.values[read]);
                    self.give(value);
                }
            }
        }
        std::mem::take(&mut self.values[last])
    }

    /// Computes what the backward of node `id` and those before it read, where it was not kept.
    fn recompute(&mut self, id: usize) {
        let model = self.model;
        for again in &model.plan.recompute[id] {
            // What is kept beside outputs is small, and there since the forward.
            self.values[again.node] = self.output(again.node, &[], false);
            for &done in &again.done {
                let value = std::mem::take(&mut self.values[done]);
                self.give(value);
            }
        }
    }

    /// The output of node `id`, whose inputs are held.
    fn output(&mut self, id: usize, input: &[f32], keep: bool) -> Vec<T> {
        let (model, weights) = (self.model, &self.model.weights[id]);
        let node = &model.nodes[id];
        let mut y = self.pool.take(model.plan.len(id) * self.pictures);
        let x = node.inputs.first().map_or(&[][..], |&input| &self.values[input]);
        let (len, dim) = model.tokens(id);
        match &node.op {
            Op::Input { .. } => {
                for (y, &value) in y.iter_mut().zip(input) {
                    *y = T::from_f32(value);
                }
            }
            Op::PatchEmbed { .. } => {
                let patches = self.patches(id);
                let mut rows = self.pool.take(x.len());
                patches.gather(x, &mut rows);
                linear::forward(&rows, &weights[0], Some(&weights[1]), patches.row_len(), &mut y);
                self.pool.give(rows);
            }
            Op::InsertTokens { at, .. } => tokens::insert(x, &weights[0], *at, len, dim, &mut y),
            Op::DropTokens { count, at } => tokens::insert_backward(x, *count, *at, len - count, dim, &mut y),
            Op::PosEmbed => tokens::pos_embed(x, &weights[0], &mut y),
            Op::LayerNorm { eps } => {
                let mut moments = self.pool.take(x.len() / dim * 2);
                layer_norm::forward(x, &weights[0], &weights[1], *eps, &mut moments, &mut y);
                self.keep_extra(id, moments, keep && model.plan.needs[id].input);
            }
            Op::Linear { .. } => match &model.fixed[id] {
                Fixed::Int8(matrix) => int8::forward(x, self.pictures, matrix, model.bias(id), &mut y),
                _ => linear::forward(x, &weights[0], model.bias(id), dim, &mut y),
            },
            Op::Act(function) => activation::forward(*function, x, &mut y),
            Op::Attention { .. } | Op::CausalAttention { .. } | Op::WindowAttention { .. } => {
                let mut scratch = self.pool.take(len * len);
                self.attention(id).forward(x, &mut y, &mut scratch);
                self.pool.give(scratch);
            }
            Op::AttentionPool { .. } => self.attention_pool(id).forward(x, &mut y),
            Op::Grid { .. }
            | Op::SpaceToDepth { .. }
            | Op::PixelShuffle { .. }
            | Op::WindowPartition(_)
            | Op::WindowReverse(_) => match &model.fixed[id] {
                Fixed::Rows { forward, .. } => rows::gather(x, forward, model.moved_width(id), &mut y),
                _ => y.copy_from_slice(x),
            },
            Op::NormalizeHeads { .. } => heads::forward(x, &weights[0], dim, &mut y),
            Op::Unfold { .. } => self.unfold(id).forward(x, &mut y),
            Op::DepthwiseConv { .. } => self.depthwise(id).forward(x, &weights[0], &weights[1], &mut y),
            Op::Concat => tokens::concat(x, &self.values[node.inputs[1]], dim, &mut y),
            Op::GlobalResponseNorm => {
                response_norm::forward(x, &weights[0], &weights[1], self.places(id), &mut y);
            }
            Op::LayerScale => {
                y.copy_from_slice(x);
                residual::scale_channels(&mut y, &weights[0]);
            }
            Op::Add => residual::add(x, &self.values[node.inputs[1]], &self.branch_factors(id), &mut y),
            Op::TakeClassToken => tokens::take_class_token(x, len, dim, &mut y),
            Op::MeanTokens { skip } => match self.sizes(id, 1) {
                [] => tokens::mean_tokens(x, self.places(id), dim, *skip, &mut y),
                sizes => merging::weighted_mean(x, sizes, [len, dim, *skip], &mut y),
            },
            &Op::MatchTokens { merged, protected, num_heads } => {
                Matching { len, dim: dim / 3, num_heads, merged, protected }.forward(x, &mut y);
            }
            Op::MergeSizes { merged } => {
                let len = model.plan.len(id) + merged;
                merging::sizes(x, self.sizes(id, 1), len, *merged, &mut y);
            }
            Op::MergeTokens => {
                let sizes = [self.sizes(id, 2), self.sizes(id, 3)];
                let sides = [len, dim, len - model.plan.shapes[id][0]];
                merging::tokens(x, &self.values[node.inputs[1]], sizes, sides, &mut y);
            }
            Op::RepAdapter { hidden: width, .. } => {
                let mut hidden = self.pool.take(x.len() / dim * width);
                let drop = self.dropout(id);
                self.adapter(id).forward(x, &mut hidden, drop.as_deref(), &mut y);
                self.keep_extra(id, hidden, keep && model.plan.trains[id]);
            }
        }
        y
    }

    fn keep_extra(&mut self, id: usize, extra: Vec<T>, keep: bool) {
        if keep {
            self.extras[id] = extra;
        } else {
            self.give(extra);
        }
    }

    /// Turns the gradient of node `id`'s output into those of its weights and its inputs.
    fn backward(&mut self, id: usize, mut gradient: Vec<T>) {
        let (model, weights) = (self.model, &self.model.weights[id]);
        let node = &model.nodes[id];
        let Some(&source) = node.inputs.first() else { return self.give(gradient) };
        let (len, dim) = model.tokens(id);
        let below = model.plan.needs[id].input_grad;
        if model.plan.trains[id] && !matches!(node.op, Op::RepAdapter { .. }) {
            self.own_gradients(id, &gradient);
        }
        if !below && !matches!(node.op, Op::RepAdapter { .. } | Op::Add) {
            return self.give(gradient);
        }
        if node.op == Op::Concat {
            let parts = [0, 1].map(|which| self.pool.take(model.plan.len(node.inputs[which]) * self.pictures));
            let [mut first, mut second] = parts;
            tokens::concat_backward(&gradient, dim, &mut first, &mut second);
            self.give(gradient);
            self.hand_down(source, first);
            return self.hand_down(node.inputs[1], second);
        }
        let input_len = model.plan.len(source) * self.pictures;
        match &node.op {
            // In place: the input's gradient is as large as the output's.
            Op::Input { .. } | Op::PosEmbed | Op::Grid { .. } => {}
            Op::NormalizeHeads { .. } => heads::backward(&self.values[source], &weights[0], dim, &mut gradient),
            Op::GlobalResponseNorm => {
                response_norm::backward(&self.values[source], &weights[0], self.places(id), &mut gradient);
            }
            Op::LayerNorm { .. } => {
                layer_norm::backward(&self.values[source], &weights[0], &self.extras[id], &mut gradient);
            }
            Op::Act(function) => activation::backward(*function, &self.values[source], &mut gradient),
            Op::LayerScale => residual::scale_channels(&mut gradient, &weights[0]),
            Op::RepAdapter { .. } => {
                self.adapter_backward(id, &mut gradient);
                if !below {
                    return self.give(gradient);
                }
            }
            Op::Add => {
                let branch = node.inputs[1];
                if model.plan.carries_grad[branch] {
                    let mut scaled = self.pool.copy(&gradient);
                    residual::scale_pictures(&mut scaled, &self.branch_factors(id));
                    self.hand_down(branch, scaled);
                }
            }
            op => {
                let mut dx = self.pool.take(input_len);
                match op {
                    Op::PatchEmbed { .. } => {
                        let patches = self.patches(id);
                        let mut rows = self.pool.take(input_len);
                        linear::backward_input(&gradient, &weights[0], patches.row_len(), &mut rows);
                        patches.scatter(&rows, &mut dx);
                        self.pool.give(rows);
                    }
                    Op::SpaceToDepth { .. }
                    | Op::PixelShuffle { .. }
                    | Op::WindowPartition(_)
                    | Op::WindowReverse(_) => {
                        if let Fixed::Rows { backward, .. } = &model.fixed[id] {
                            rows::gather(&gradient, backward, model.moved_width(id), &mut dx);
                        }
                    }
                    Op::Unfold { .. } => self.unfold(id).backward(&gradient, &mut dx),
                    Op::DepthwiseConv { .. } => self.depthwise(id).backward_input(&gradient, &weights[0], &mut dx),
                    Op::Attention { .. } | Op::CausalAttention { .. } | Op::WindowAttention { .. } => {
                        let mut scratch = [self.pool.take(len * len), self.pool.take(len * len)];
                        let qkv = &self.values[source];
                        let both = scratch.each_mut().map(Vec::as_mut_slice);
                        self.attention(id).backward(qkv, &gradient, &mut dx, both);
                        scratch.into_iter().for_each(|buffer| self.pool.give(buffer));
                    }
                    Op::AttentionPool { .. } => {
                        self.attention_pool(id).backward(&self.values[source], &gradient, &mut dx);
                    }
                    Op::InsertTokens { count, at } => {
                        tokens::insert_backward(&gradient, *count, *at, len, dim, &mut dx);
                    }
                    Op::DropTokens { count, at } => {
                        tokens::insert(&gradient, &vec![T::ZERO; count * dim], *at, len - count, dim, &mut dx);
                    }
                    Op::TakeClassToken => tokens::take_class_token_backward(&gradient, len, dim, &mut dx),
                    Op::MeanTokens { skip } => {
                        tokens::mean_tokens_backward(&gradient, self.places(id), dim, *skip, &mut dx);
                    }
                    _ => linear::backward_input(&gradient, &weights[0], dim, &mut dx),
                }
                self.give(std::mem::replace(&mut gradient, dx));
            }
        }
        self.hand_down(source, gradient);
    }

    /// Adds to the gradient of node `id`'s output, where it is needed.
    fn hand_down(&mut self, id: usize, gradient: Vec<T>) {
        if !self.model.plan.carries_grad[id] {
            self.give(gradient);
        } else if self.gradients[id].is_empty() {
            self.gradients[id] = gradient;
        } else {
            vector::add_assign(&mut self.gradients[id], &gradient);
            self.give(gradient);
        }
    }

    /// The gradients of node `id`'s trained weights, from that of its output.
    fn own_gradients(&mut self, id: usize, dy: &[T]) {
        let model = self.model;
        let (len, dim) = model.tokens(id);
        let mut gradients = self.take_weights(id);
        let x = &self.values[model.nodes[id].inputs[0]];
        let wants = |param: usize| model.plan.trained[id].get(param) == Some(&true);
        match (&model.nodes[id].op, gradients.as_mut_slice()) {
            (Op::Linear { .. }, [weight, bias @ ..]) => {
                if wants(0) {
                    linear::backward_weight(x, dy, dim, weight);
                }
                if let (true, Some(bias)) = (wants(1), bias.first_mut()) {
                    vector::sum_rows(dy, T::ONE, bias);
                }
            }
            (Op::PatchEmbed { .. }, [weight, bias]) => {
                if wants(0) {
                    let patches = self.patches(id);
                    let mut rows = self.pool.take(x.len());
                    patches.gather(x, &mut rows);
                    linear::backward_weight(&rows, dy, patches.row_len(), weight);
                    self.pool.give(rows);
                }
                vector::sum_rows(dy, T::ONE, bias);
            }
            (Op::LayerNorm { .. }, [weight, bias]) => match wants(0) {
                true => layer_norm::backward_weights(x, &self.extras[id], dy, weight, bias),
                false => vector::sum_rows(dy, T::ONE, bias),
            },
            (Op::DepthwiseConv { .. }, [weight, bias]) => {
                if wants(0) {
                    self.depthwise(id).backward_weight(x, dy, weight);
                }
                vector::sum_rows(dy, T::ONE, bias);
            }
            (Op::GlobalResponseNorm, [weight, bias]) => match wants(0) {
                true => response_norm::backward_weights(x, dy, self.places(id), weight, bias),
                false => vector::sum_rows(dy, T::ONE, bias),
            },
            (Op::LayerScale, [gamma]) => residual::scale_channels_weights(x, dy, gamma),
            (Op::PosEmbed, [embedding]) => vector::sum_rows(dy, T::ONE, embedding),
            (Op::InsertTokens { at, .. }, [inserted]) => tokens::insert_weights(dy, *at, len, dim, inserted),
            _ => unreachable!("the plan lets no other operator train"),
        }
        self.weight_gradients[id] = self.chosen(id, gradients);
    }

    /// The gradients of the trained weights among those of all of node `id`'s.
    fn chosen(&mut self, id: usize, gradients: Vec<Vec<T>>) -> Vec<Vec<T>> {
        let (chosen, others): (Vec<_>, Vec<_>) =
            gradients.into_iter().zip(&self.model.plan.trained[id]).partition(|(_, trained)| **trained);
        others.into_iter().for_each(|(gradient, _)| self.give(gradient));
        chosen.into_iter().map(|(gradient, _)| gradient).collect()
    }

    fn adapter_backward(&mut self, id: usize, gradient: &mut [T]) {
        let plan = &self.model.plan;
        let adapter = self.adapter(id);
        let mut dhidden = self.pool.take(gradient.len() / adapter.up_bias.len() * adapter.down_bias.len());
        let mut gradients = if plan.trains[id] { self.take_weights(id) } else { Vec::new() };
        let drop = self.dropout(id);
        let x = &self.values[self.model.nodes[id].inputs[0]];
        let trained = match gradients.as_mut_slice() {
            [down, down_bias, up, up_bias] => {
                Some((x.as_slice(), self.extras[id].as_slice(), Gradients { down, down_bias, up, up_bias }))
            }
            _ => None,
        };
        adapter.backward(gradient, &mut dhidden, drop.as_deref(), trained, plan.needs[id].input_grad);
        self.pool.give(dhidden);
        self.weight_gradients[id] = gradients;
    }

    fn take_weights(&mut self, id: usize) -> Vec<Vec<T>> {
        let weights = &self.model.weights[id];
        weights.iter().map(|weight| self.pool.take(weight.len())).collect()
    }

    fn patches(&self, id: usize) -> Patches {
        match (&self.model.nodes[id].op, self.model.input_shape(id)) {
            // A clip's tubelets are as so many pictures.
            (&Op::PatchEmbed { patch_size, tubelets, .. }, &[channels, height, width]) => {
                Patches { picture: [channels / tubelets, height, width], patch_size }
            }
            _ => unreachable!("called for patch embeddings, whose input has three dimensions"),
        }
    }

    /// The sizes of merged tokens that node `id` reads as its input `at`; empty where it reads none.
    fn sizes(&self, id: usize, at: usize) -> &[T] {
        self.model.nodes[id].inputs.get(at).map_or(&[], |&input| &self.values[input])
    }

    fn attention(&self, id: usize) -> Attention<'_, T> {
        let (len, width) = self.model.tokens(id);
        let bias = match &self.model.fixed[id] {
            Fixed::Bias(bias) => bias.as_slice(),
            _ => &[],
        };
        match self.model.nodes[id].op {
            Op::Attention { num_heads, scale }
            | Op::CausalAttention { num_heads, scale }
            | Op::WindowAttention { num_heads, scale, .. } => {
                Attention { len, dim: width / 3, num_heads, scale, bias, sizes: self.sizes(id, 1) }
            }
            _ => unreachable!("called for attentions"),
        }
    }

    fn depthwise(&self, id: usize) -> Depthwise {
        match (&self.model.nodes[id].op, self.model.input_shape(id)) {
            (&Op::DepthwiseConv { kernel_size: kernel, stride }, &[height, width, dim]) => {
                Depthwise { size: [height, width], dim, kernel, stride }
            }
            _ => unreachable!("called for depthwise convolutions, whose input has three dimensions"),
        }
    }

    fn unfold(&self, id: usize) -> Unfold {
        match (&self.model.nodes[id].op, self.model.input_shape(id)) {
            (&Op::Unfold { kernel_size: kernel, stride, from_pixels }, &[a, b, c]) => {
                let input = if from_pixels { [a, b, c] } else { [c, a, b] };
                Unfold { input, from_pixels, kernel, stride }
            }
            _ => unreachable!("called for unfoldings, whose input has three dimensions"),
        }
    }

    /// The number of tokens or places of a picture that node `id` reads.
    fn places(&self, id: usize) -> usize {
        let shape = self.model.input_shape(id);
        shape[..shape.len().saturating_sub(1)].iter().product()
    }

    fn attention_pool(&self, id: usize) -> AttentionPool<'_, T> {
        match (&self.model.nodes[id].op, self.model.weights[id].as_slice()) {
            (&Op::AttentionPool { num_heads, scale }, [query]) => {
                AttentionPool { query, num_heads, scale, sizes: self.sizes(id, 1) }
            }
            _ => unreachable!("called for pooling attentions, which have one weight"),
        }
    }

    fn adapter(&self, id: usize) -> RepAdapter<'a, T> {
        match (&self.model.nodes[id].op, self.model.weights[id].as_slice()) {
            (&Op::RepAdapter { groups, scale, .. }, [down, down_bias, up, up_bias]) => {
                RepAdapter { down, down_bias, up, up_bias, groups, scale }
            }
            _ => unreachable!("called for adapters, which have four weights"),
        }
    }

    /// The factor on each of the chunk's hidden units of adapter `id`, counted from the chunk's first.
    fn dropout(&self, id: usize) -> Option<Box<dyn Fn(usize) -> T + 'a>> {
        let noise = self.noise.filter(|noise| noise.dropout > 0.0)?;
        let width = self.adapter(id).down_bias.len();
        let tokens = self.model.plan.len(id) / self.model.tokens(id).1;
        let first = self.first * tokens * width;
        // The index wraps as it does in every engine.
        Some(Box::new(move |unit| T::from_f32(noise.dropout_factor(id, (first + unit) as u32))))
    }

    /// The factor on the branch of residual sum `id`, picture by picture.
    fn branch_factors(&self, id: usize) -> Vec<T> {
        let factor = |picture: usize| match (self.noise, self.model.plan.residual_of[id]) {
            (Some(noise), Some(residual)) => noise.drop_path_factor(id, residual, (self.first + picture) as u32),
            _ => 1.0,
        };
        (0..self.pictures).map(|picture| T::from_f32(factor(picture))).collect()
    }
}
