//! Operations one after the other on plain buffers: activations pass from one to the next, and nowhere else.

use rayon::prelude::*;

use super::{
    drop_path::DropPath,
    operation::{Backward, Gradient, ModuleOperation, Operation, Pass},
    part::Part,
};
use crate::{awake::stay_awake, profile::timed, scratch::Buffer, simd::Precision};

/// Operations in order, each of which takes the output of the one before it.
#[derive(Debug)]
pub(crate) struct Chain(Vec<Box<dyn ModuleOperation>>);

impl Chain {
    /// The operations of a model's parts.
    pub(crate) fn new(parts: &[&dyn Part]) -> Self {
        Self(parts.iter().map(|part| part.operation()).collect())
    }

    /// Number of parameters of all operations together.
    pub(crate) fn parameters(&self) -> usize {
        self.0.iter().map(|operation| operation.parameters()).sum()
    }

    /// Values of the output.
    pub(crate) fn outputs(&self, pass: &Pass) -> usize {
        self.0.last().map_or(0, |operation| operation.output(pass))
    }

    /// Sets the precision of products.
    pub(crate) fn set_precision(&mut self, precision: Precision) {
        self.0.iter_mut().for_each(|operation| operation.set_precision(precision));
    }

    /// The drop paths of all blocks, first to last.
    pub(crate) fn drop_paths(&mut self) -> impl Iterator<Item = &mut DropPath> {
        self.0.iter_mut().filter_map(|operation| operation.drop_path())
    }

    /// The same for parameters that stay the same from pass to pass.
    pub(crate) fn frozen(&self) -> Self {
        Self(self.0.iter().map(|operation| operation.frozen()).collect())
    }

    /// The output of the last operation. `weights` are the parameters of all operations, in order.
    ///
    /// # Panics
    /// If `weights` or `x` have another length than the operations ask for.
    pub(crate) fn run(&self, pass: &Pass, weights: &[f32], x: &[f32]) -> Buffer {
        forward(&self.operations(), pass, weights, x).0
    }

    /// As [`run`](Self::run), with what the last operation's linear layer looks at, if that is a head.
    ///
    /// # Panics
    /// As there.
    pub(crate) fn run_with_features(&self, pass: &Pass, weights: &[f32], x: &[f32]) -> (Buffer, Option<Vec<f32>>) {
        let Some((last, before)) = self.0.split_last() else { return (Buffer::default(), None) };
        let (body, own) = weights.split_at(weights.len() - last.parameters());
        let before: Vec<_> = before.iter().map(|operation| &**operation as &dyn Operation).collect();
        let (x, _) = forward(&before, pass, body, x);
        (forward(&[&**last as &dyn Operation], pass, own, &x).0, last.features(pass, own, &x))
    }

    /// The loss that `last` computes from the output, with the gradients of all parameters added to `gradients`.
    ///
    /// # Panics
    /// If `weights`, `gradients` or `x` have another length than the operations ask for.
    pub(crate) fn step(
        &self,
        last: &dyn Operation,
        pass: &Pass,
        weights: &[f32],
        x: &[f32],
        gradients: &mut [f32],
    ) -> f32 {
        let mut operations = self.operations();
        operations.push(last);
        let (loss, trace) = forward(&operations, pass, weights, x);
        trace.backward(weights, x, &[1.0], &mut [], gradients);
        loss[0]
    }

    fn operations(&self) -> Vec<&dyn Operation> {
        self.0.iter().map(|operation| &**operation as &dyn Operation).collect()
    }
}

/// The backward passes of a chain, and the activations between its operations.
pub(crate) struct Trace {
    steps: Vec<Step>,
    /// Values of the output.
    output: usize,
}

struct Step {
    backward: Backward,
    parameters: usize,
    /// The operation's input; empty for the first, whose input is the chain's.
    x: Buffer,
}

/// Runs `operations`; the trace is empty unless the pass keeps what a backward pass needs.
pub(crate) fn forward(operations: &[&dyn Operation], pass: &Pass, weights: &[f32], x: &[f32]) -> (Buffer, Trace) {
    let (mut rest, mut pass) = (weights, pass.clone());
    let (mut steps, mut before) = (Vec::new(), Buffer::default());
    for (index, operation) in operations.iter().enumerate() {
        stay_awake();
        let parameters = operation.parameters();
        let weights = rest.split_off(..parameters).expect("parameters of all operations");
        let mut out = Buffer::new(operation.output(&pass));
        let backward = operation.forward(&pass, weights, if index == 0 { x } else { &before }, &mut out);
        let x = std::mem::replace(&mut before, out);
        steps.extend(backward.map(|backward| Step { backward, parameters, x }));
        if operation.fills_the_grid() {
            pass.visible = None;
        }
    }
    assert!(rest.is_empty(), "parameters of the operations alone");
    let output = before.len();
    (before, Trace { steps, output })
}

impl Trace {
    /// Adds the gradients of the parameters to `gradients`, and that of the input to `grad_x`, unless that is empty.
    pub(crate) fn backward(
        self,
        weights: &[f32],
        x: &[f32],
        grad_out: &[f32],
        grad_x: &mut [f32],
        gradients: &mut [f32],
    ) {
        assert_eq!(grad_out.len(), self.output, "length of the output's gradient");
        assert_eq!(gradients.len(), weights.len(), "length of the gradients");
        let (mut end, mut grad, mut first) = (weights.len(), Buffer::default(), true);
        for (index, step) in self.steps.into_iter().enumerate().rev() {
            stay_awake();
            let here = end - step.parameters..end;
            end = here.start;
            let grad_out = if std::mem::take(&mut first) { grad_out } else { &grad };
            let (weights, gradients) = (&weights[here.clone()], &mut gradients[here]);
            if index == 0 {
                return (step.backward)(Gradient { weights, x, grad_out, grad_x, gradients });
            }
            let mut between = zeros(step.x.len());
            (step.backward)(Gradient { weights, x: &step.x, grad_out, grad_x: &mut between, gradients });
            grad = between;
        }
    }
}

/// A gradient to be added to.
fn zeros(length: usize) -> Buffer {
    const PIECE: usize = 1 << 16;
    timed!(Operation, "gradients of activations zeroed");
    let mut buffer = Buffer::new(length);
    buffer.par_chunks_mut(PIECE).for_each(|piece| piece.fill(0.0));
    buffer
}
