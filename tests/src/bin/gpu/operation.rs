//! How long some of a block's kernels take by themselves, and the bytes that they move.

use std::time::Instant;

use convnext_core::{
    launch::{
        element::Element,
        geometry::Geometry,
        schedule::{Lifetime, Parameter, Schedule, Step, View},
    },
    ops::block::{Flavour, cuda as block},
};
use convnext_cuda::cost::Work;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Dtype, Outcome,
    side::{executor, write_noise},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    part: Part,
    channels: usize,
    /// Cells a side of the grid.
    side: usize,
    batch: usize,
    dtype: Dtype,
    /// Times that the part runs for one measurement.
    repeats: usize,
    rounds: usize,
}

/// A part of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Part {
    /// The depthwise convolution, with the statistics of the normalisation behind it.
    DepthwiseForward,
    /// Its two gradients; that of the input is added to what comes past the block.
    DepthwiseBackward,
    /// Bias, GELU and response normalisation.
    HiddenForward,
    /// Their gradients, with the hidden features computed again.
    HiddenBackward,
}

impl Part {
    /// Its first and its last kernel in a block's schedule; sums that follow belong to it.
    fn kernels(self) -> (&'static str, &'static str) {
        match self {
            Self::DepthwiseForward => ("depthwise_forward", "depthwise_forward"),
            Self::DepthwiseBackward => ("depthwise_weight_gradient", "depthwise_input_gradient"),
            Self::HiddenForward => ("grn_statistics", "hidden_apply"),
            Self::HiddenBackward => ("grn_backward_statistics", "hidden_backward"),
        }
    }

    fn steps(self, schedule: &Schedule) -> Outcome<&[Step]> {
        let (steps, (first, last)) = (schedule.steps(), self.kernels());
        let at = |name| steps.iter().position(|step| kernel(step) == Some(name)).ok_or("a block without this kernel");
        let (first, last) = (at(first)?, at(last)?);
        let sums = steps[last + 1..].iter().take_while(|step| kernel(step) == Some("sum_rows")).count();
        Ok(&steps[first..=last + sums])
    }
}

fn kernel(step: &Step) -> Option<&'static str> {
    match step {
        Step::Launch(launch) => Some(launch.kernel),
        Step::Product(_) | Step::Zero(_) => None,
    }
}

pub(crate) fn run(order: &Order) -> Outcome<Value> {
    let schedule = block_schedule(order)?;
    let steps = order.part.steps(&schedule)?;
    let repeated = only(&schedule, steps, order.repeats);
    let mut executor = executor(&repeated)?;
    for (index, buffer) in repeated.buffers().iter().enumerate().filter(|(_, buffer)| buffer.length > 0) {
        let view = View { buffer: index, element: buffer.element, offset: 0, length: buffer.length };
        write_noise(&mut executor, &view, 1.0)?;
    }
    executor.run()?;
    executor.finish()?;
    executor.capture()?;
    let mut times = Vec::new();
    for _ in 0..order.rounds + 1 {
        let start = Instant::now();
        executor.run()?;
        executor.finish()?;
        times.push(start.elapsed().as_secs_f64() * 1e3 / order.repeats as f64);
    }
    let bytes: u64 = steps.iter().map(|step| Work::of(step).bytes).sum();
    Ok(json!({ "ms": times.split_off(1), "bytes": bytes }))
}

/// A block, forwards and backwards, over a dense grid.
fn block_schedule(order: &Order) -> Outcome<Schedule> {
    let shape = block::Shape {
        samples: order.batch,
        geometry: Geometry::Dense { height: order.side, width: order.side },
        channels: order.channels,
        hidden: 4 * order.channels,
        kernel: 7,
        flavour: Flavour::V2,
        real: order.dtype.into(),
    };
    let mut schedule = Schedule::new();
    let parameters = block::Parameters::named(&shape.layer(), |name, length| {
        let [value, gradient] = [0; 2].map(|_| schedule.buffer(name, Element::F32, length, Lifetime::Persistent));
        let mirror = if shape.real == Element::F32 { value } else { schedule.temporary(name, shape.real, length) };
        Parameter { value, mirror, gradient }
    });
    let [x, grad] = ["x", "grad"].map(|name| schedule.temporary(name, shape.real, shape.rows() * shape.channels));
    let (_, saved) = block::forward(&mut schedule, &shape, &parameters, None, None, x)?;
    block::backward(&mut schedule, &shape, &parameters, None, None, &saved, grad)?;
    Ok(schedule)
}

/// A schedule of these steps alone, again and again. What they do not touch takes no memory.
fn only(schedule: &Schedule, steps: &[Step], repeats: usize) -> Schedule {
    let mut used = vec![0; schedule.buffers().len()];
    for (view, _) in steps.iter().flat_map(Step::accesses) {
        used[view.buffer] = schedule.buffers()[view.buffer].length;
    }
    let mut only = Schedule::new();
    for (buffer, length) in schedule.buffers().iter().zip(used) {
        only.buffer(buffer.name.clone(), buffer.element, length, Lifetime::Persistent);
    }
    for _ in 0..repeats {
        steps.iter().for_each(|step| only.push(step.clone()));
    }
    only
}
