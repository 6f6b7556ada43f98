//! Whether a plan's numbers make a model. Those of a declared variant do; a plan is open to be filled in by hand.

use convnext_core::plan::{Plan, StagePlan};

use super::error::OnnxError;

/// Largest side that is taken, in pixels, cells or channels: what ONNX's signed numbers hold everywhere.
const LARGEST: usize = i32::MAX as usize;

/// Fails with the first thing that is wrong with `plan`.
///
/// # Errors
/// [`OnnxError::Plan`] naming it.
pub(super) fn check(plan: &Plan) -> Result<(), OnnxError> {
    let problem = sizes(plan).or_else(|| stages(plan)).or_else(|| grid(plan));
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
    // A rate for each block bounds the blocks by something that lies in memory.
    if stage.drop_path.len() != stage.depth {
        return Some(format!("{} drop-path rates for {} blocks", stage.drop_path.len(), stage.depth));
    }
    out_of_range("number of channels", stage.dim).or_else(|| out_of_range("kernel", stage.kernel))
}

fn grid(plan: &Plan) -> Option<String> {
    let doublings = u32::try_from(plan.stages.len() - 1).ok();
    let stride = doublings.and_then(|doublings| plan.stem.checked_mul(2usize.checked_pow(doublings)?));
    let fits = |side: usize| stride.is_some_and(|stride| side.is_multiple_of(stride));
    let (height, width, stages) = (plan.height, plan.width, plan.stages.len());
    let problem = format!("{height} x {width} pixels do not divide into the grids of {stages} stages");
    (!fits(height) || !fits(width)).then_some(problem)
}

fn out_of_range(what: &str, size: usize) -> Option<String> {
    (!(1..=LARGEST).contains(&size)).then(|| format!("a {what} of {size}"))
}
