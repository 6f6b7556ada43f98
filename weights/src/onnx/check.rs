//! Whether a plan's numbers make a model. Those of a declared variant do; a plan is open to be filled in by hand.

use convnext_core::{
    optim::Layout,
    plan::{Plan, StagePlan},
};

use super::error::OnnxError;

/// Largest side that is taken, in pixels, cells or channels: what ONNX's signed numbers hold everywhere.
const LARGEST: usize = i32::MAX as usize;

/// Fails with the first thing that is wrong with `plan`, whose weights are those of `layout`.
///
/// # Errors
/// [`OnnxError::Plan`] naming it.
pub(super) fn check(plan: &Plan, layout: &Layout) -> Result<(), OnnxError> {
    let problem = sizes(plan).or_else(|| stages(plan)).or_else(|| grid(plan)).or_else(|| blocks(plan, layout));
    problem.map_or(Ok(()), |problem| Err(OnnxError::Plan { variant: plan.name.into(), problem }))
}

fn sizes(plan: &Plan) -> Option<String> {
    let sizes = [
        ("height", plan.height),
        ("width", plan.width),
        ("number of channels", plan.channels),
        ("stem", plan.stem),
        ("number of classes", plan.classes),
    ];
    sizes.into_iter().find_map(|(what, size)| out_of_range(what, size))
}

fn stages(plan: &Plan) -> Option<String> {
    if plan.stages.is_empty() {
        return Some("it has no stage".into());
    }
    plan.stages.iter().enumerate().find_map(|(index, stage)| {
        let problem = stage_problem(stage)?;
        Some(format!("stage {index}: {problem}"))
    })
}

fn stage_problem(stage: &StagePlan) -> Option<String> {
    if stage.kernel.is_multiple_of(2) {
        return Some(format!("a depthwise kernel has an odd side, not {}", stage.kernel));
    }
    let sizes = [("number of channels", stage.dim), ("kernel", stage.kernel), ("number of blocks", stage.depth)];
    sizes.into_iter().find_map(|(what, size)| out_of_range(what, size))
}

fn grid(plan: &Plan) -> Option<String> {
    let doublings = u32::try_from(plan.stages.len() - 1).ok();
    let stride = doublings.and_then(|doublings| plan.stem.checked_mul(2usize.checked_pow(doublings)?));
    let fits = |side: usize| stride.is_some_and(|stride| side.is_multiple_of(stride));
    let (height, width, stages) = (plan.height, plan.width, plan.stages.len());
    let problem = format!("{height} x {width} pixels do not divide into the grids of {stages} stages");
    (!fits(height) || !fits(width)).then_some(problem)
}

/// The blocks are bounded by something that lies in memory.
fn blocks(plan: &Plan, layout: &Layout) -> Option<String> {
    let (blocks, tensors) = (plan.blocks(), layout.segments().len());
    (blocks > tensors).then(|| format!("{blocks} blocks for {tensors} tensors"))
}

fn out_of_range(what: &str, size: usize) -> Option<String> {
    (!(1..=LARGEST).contains(&size)).then(|| format!("a {what} of {size}"))
}
