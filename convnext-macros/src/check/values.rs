//! Every value by itself.

use crate::ast::example;
use crate::ast::{Decoder, Fcmae, Fraction, Input, Number, Pretraining, Setting, Settings, Spec};
use crate::ast::{Stage, Stages};
use crate::error::{Errors, Wrong};
use std::ops::RangeInclusive;

const SIDE: RangeInclusive<u64> = 1..=65536;
const CHANNELS: RangeInclusive<u64> = 1..=64;
const STEM: RangeInclusive<u64> = 1..=256;
const DIM: RangeInclusive<u64> = 1..=65536;
const DEPTH: RangeInclusive<u64> = 1..=256;
const KERNEL: RangeInclusive<u64> = 1..=63;
const CLASSES: RangeInclusive<u64> = 1..=1_000_000;
const MAX_STAGES: usize = 16;

/// Every value is in range; one that is not is reported where it stands, once, and counts as wrong from then on.
pub(crate) fn values(spec: &mut Spec, errors: &mut Errors) {
    for declaration in spec.families.iter_mut().chain(&mut spec.models) {
        settings_in_range(&mut declaration.settings, errors);
        if let Setting::Given(Pretraining::On(fcmae)) = &mut declaration.settings.fcmae {
            fcmae_in_range(fcmae, errors);
        }
    }
}

fn settings_in_range(settings: &mut Settings, errors: &mut Errors) {
    if let Setting::Given(input) = &mut settings.input {
        input_in_range(input, errors);
    }
    if let Setting::Given(stages) = &mut settings.stages {
        stages_in_range(stages, errors);
    }
    settings.stages.keep_if(|stages| stages_are_few(stages, errors));
    settings.stem.keep_if(|stem| in_range("`stem`", stem, &STEM, errors));
    settings.head.keep_if(|head| in_range("`head`", head, &CLASSES, errors));
    settings.kernel.keep_if(|kernel| kernel_is_odd("`kernel`", kernel, errors));
    settings.drop_path.keep_if(|rate| drop_path_in_range(rate, errors));
}

fn fcmae_in_range(fcmae: &mut Fcmae, errors: &mut Errors) {
    fcmae.patch.keep_if(|patch| in_range("`patch`", patch, &SIDE, errors));
    fcmae.mask.keep_if(|mask| mask_in_range(mask, errors));
    fcmae.decoder.keep_if(|decoder| decoder_in_range(decoder, errors));
    fcmae.kernel.keep_if(|kernel| kernel_is_odd("the decoder's `kernel`", kernel, errors));
}

fn in_range(what: &str, number: &Number, range: &RangeInclusive<u64>, errors: &mut Errors) -> bool {
    if range.contains(&number.value) {
        return true;
    }
    let (low, high) = (range.start(), range.end());
    let nearest = number.value.clamp(*low, *high);
    let message = format!(
        "{what} is {}, which is not from {low} to {high}; the nearest value that works is {nearest}",
        number.value
    );
    errors.add(number.span, message);
    false
}

fn input_in_range(input: &mut Input, errors: &mut Errors) {
    let parts = [
        (&mut input.height, "the input's height", SIDE),
        (&mut input.width, "the input's width", SIDE),
        (&mut input.channels, "the input's number of channels", CHANNELS),
    ];
    for (part, what, range) in parts {
        keep_if(part, |number| in_range(what, number, &range, errors));
    }
}

fn stages_in_range(stages: &mut Stages, errors: &mut Errors) {
    for (index, stage) in stages.list.iter_mut().enumerate() {
        keep_if(stage, |stage| stage_in_range(index + 1, stage, errors));
    }
}

fn keep_if<T>(part: &mut Result<T, Wrong>, check: impl FnOnce(&T) -> bool) {
    if part.as_ref().is_ok_and(|part| !check(part)) {
        *part = Err(Wrong);
    }
}

// Here and below every part is checked before the first that is wrong decides: `&`, not `&&`.

fn stage_in_range(index: usize, stage: &Stage, errors: &mut Errors) -> bool {
    let dim = in_range(&format!("stage {index}: the dim"), &stage.dim, &DIM, errors);
    let depth = in_range(&format!("stage {index}: the depth"), &stage.depth, &DEPTH, errors);
    let kernel = |kernel| kernel_is_odd(&format!("stage {index}: the kernel"), &kernel, errors);
    dim & depth & stage.kernel.is_none_or(kernel)
}

fn decoder_in_range(decoder: &Decoder, errors: &mut Errors) -> bool {
    in_range("the decoder's dim", &decoder.dim, &DIM, errors)
        & in_range("the decoder's depth", &decoder.depth, &DEPTH, errors)
}

/// There is a stage, and there are not more than an image could be halved.
fn stages_are_few(stages: &Stages, errors: &mut Errors) -> bool {
    let message = match stages.list.len() {
        1..=MAX_STAGES => return true,
        0 => format!("`stages` is empty; a model has at least one: `stages: {}`", example("stages")),
        count => format!("{count} stages are too many; at most {MAX_STAGES} work"),
    };
    errors.add(stages.span, message);
    false
}

fn kernel_is_odd(what: &str, kernel: &Number, errors: &mut Errors) -> bool {
    let value = kernel.value;
    if value % 2 == 1 || !KERNEL.contains(&value) {
        return in_range(what, kernel, &KERNEL, errors);
    }
    let message = format!(
        "{what} is {value}, which is even and so has no centre cell; {} or {} would work",
        value - 1,
        value + 1
    );
    errors.add(kernel.span, message);
    false
}

fn drop_path_in_range(rate: &Fraction, errors: &mut Errors) -> bool {
    if rate.digits < rate.one() {
        return true;
    }
    let message = format!(
        "`drop_path` is {rate}, which is not a rate from 0 to below 1{}",
        percentage(rate, "at 1 every block would be dropped; use for example 0.1")
    );
    errors.add(rate.span, message);
    false
}

fn mask_in_range(mask: &Fraction, errors: &mut Errors) -> bool {
    if 0 < mask.digits && mask.digits < mask.one() {
        return true;
    }
    let message = format!(
        "`mask` is {mask}, which is not a share above 0 and below 1{}",
        percentage(mask, "some patches must be removed and some stay visible; use for example 0.6")
    );
    errors.add(mask.span, message);
    false
}

/// Whoever wrote 60 probably meant 60 percent.
fn percentage(fraction: &Fraction, otherwise: &str) -> String {
    let hundred = 100 * fraction.one();
    if fraction.digits <= fraction.one() || fraction.digits >= hundred {
        return format!("; {otherwise}");
    }
    let share = fraction.digits as f64 / hundred as f64;
    format!("; did you mean {share}, which is {fraction} percent?")
}
