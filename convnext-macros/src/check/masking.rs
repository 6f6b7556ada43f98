//! The pre-training part fits the encoder: patches hold whole cells, fill the input, and some stay visible.

use super::grid::{Grid, Strides};
use super::{ModelFcmae, Scope, Written, optional};
use crate::ast::{Decoder, Fcmae, Fraction, Number, Pretraining, Setting};
use crate::error::Wrong;
use crate::suggest;
use proc_macro2::Ident;

/// The pre-training part of a model, its own settings and its family's.
#[derive(Clone, Copy)]
struct Parts<'a> {
    own: Option<&'a Fcmae>,
    inherited: Option<&'a Fcmae>,
}

impl<'a> Parts<'a> {
    /// What a model declares; `None` if it has no pre-training part.
    fn of(scope: &Scope<'a, '_>) -> Result<Option<Self>, Wrong> {
        let inherited = match scope.family.map(|family| &family.settings.fcmae) {
            Some(Setting::Wrong) => Err(Wrong),
            Some(Setting::Given(Pretraining::On(fcmae))) => Ok(Some(fcmae)),
            None if scope.model.family.is_some() => Err(Wrong),
            _ => Ok(None),
        };
        match &scope.model.settings.fcmae {
            Setting::Wrong => Err(Wrong),
            Setting::Given(Pretraining::Off) => Ok(None),
            Setting::Given(Pretraining::On(fcmae)) => Ok(Some(Self { own: Some(fcmae), inherited: inherited? })),
            Setting::Absent => Ok(inherited?.map(|fcmae| Self { own: None, inherited: Some(fcmae) })),
        }
    }

    fn find<T>(self, scope: &Scope<'a, '_>, get: impl Fn(&'a Fcmae) -> &'a Setting<T>) -> Setting<Written<'a, T>> {
        scope.merge(self.own.map(&get), self.inherited.map(&get))
    }

    /// Where `fcmae` is written.
    fn written(self, family: Option<&'a Ident>) -> Option<Written<'a, Fcmae>> {
        let own = self.own.map(|value| Written { value, family: None });
        own.or(self.inherited.map(|value| Written { value, family }))
    }
}

/// Resolves and checks the pre-training part; `None` if the model has none.
pub(super) fn fcmae(scope: &mut Scope<'_, '_>, grid: &Result<Grid, Wrong>) -> Result<Option<ModelFcmae>, Wrong> {
    let Some(parts) = Parts::of(scope)? else { return Ok(None) };
    let mask = parts.find(scope, |fcmae| &fcmae.mask);
    let default_decoder = Decoder { dim: Number::default_value(512), depth: Number::default_value(1) };
    // The patch is checked before the first `?`.
    let patch = patch(scope, parts, &mask, grid);
    let decoder = optional(&parts.find(scope, |fcmae| &fcmae.decoder), default_decoder)?;
    let (patch, mask) = (patch?.value.value, optional(&mask, default_mask())?);
    let grid = grid.as_ref().map_err(|wrong| *wrong)?;
    let (patches_high, patches_wide) = (grid.height / patch, grid.width / patch);
    Ok(Some(ModelFcmae {
        patch,
        mask,
        patches_high,
        patches_wide,
        visible: visible(patches_high * patches_wide, &mask),
        decoder_dim: decoder.dim.value,
        decoder_depth: decoder.depth.value,
        decoder_kernel: optional(&parts.find(scope, |fcmae| &fcmae.kernel), Number::default_value(7))?.value,
        normalised: optional(&parts.find(scope, |fcmae| &fcmae.normalised), true)?,
    }))
}

/// The paper's share of removed patches.
fn default_mask() -> Fraction {
    Fraction::default_value(6, 1)
}

fn patch<'a>(
    scope: &mut Scope<'a, '_>,
    parts: Parts<'a>,
    mask: &Setting<Written<'a, Fraction>>,
    grid: &Result<Grid, Wrong>,
) -> Result<Written<'a, Number>, Wrong> {
    let strides = Strides::of(scope);
    let patch = match parts.find(scope, |fcmae| &fcmae.patch) {
        Setting::Given(patch) => patch,
        Setting::Wrong => return Err(Wrong),
        Setting::Absent => {
            patch_is_missing(scope, parts, strides);
            return Err(Wrong);
        }
    };
    patch_holds_whole_cells(scope, patch, strides?, grid.as_ref().ok())?;
    let grid = grid.as_ref().map_err(|wrong| *wrong)?;
    patch_divides_input(scope, patch, strides?, grid)?;
    some_patches_stay_visible(scope, patch, mask, strides?, grid)?;
    Ok(patch)
}

fn patch_is_missing(scope: &mut Scope<'_, '_>, parts: Parts<'_>, strides: Result<Strides, Wrong>) {
    let Some(fcmae) = parts.written(scope.model.family.as_ref()) else { return };
    let smallest = strides.map_or(32, Strides::total);
    let message = format!(
        "`fcmae` lacks `patch`, the side of a masking patch in pixels; the smallest that can work is `patch: {smallest}`, the total stride"
    );
    scope.blame(fcmae, fcmae.value.span, message);
}

fn patch_holds_whole_cells(
    scope: &mut Scope<'_, '_>,
    patch: Written<'_, Number>,
    strides: Strides,
    grid: Option<&Grid>,
) -> Result<(), Wrong> {
    let (value, total) = (patch.value.value, strides.total());
    if value % total == 0 {
        return Ok(());
    }
    let Strides { stem, stages } = strides;
    let arithmetic = match stages {
        1 => "the stem".to_string(),
        _ => format!("stem {stem}{}", " x 2".repeat(stages - 1)),
    };
    let hint = match grid {
        Some(grid) => patches_that_work(value, strides, grid, &default_mask()),
        None => format!("the nearest: {}", suggest::numbers(&suggest::multiples(value, total, u64::MAX))),
    };
    let message = format!(
        "`patch` is {value}, which is not a multiple of the total stride {total} ({arithmetic}): its edges would cut cells of the last grid; {hint}"
    );
    scope.blame(patch, patch.value.span, message);
    Err(Wrong)
}

fn patch_divides_input(
    scope: &mut Scope<'_, '_>,
    patch: Written<'_, Number>,
    strides: Strides,
    grid: &Grid,
) -> Result<(), Wrong> {
    let value = patch.value.value;
    let rests: Vec<_> = [("height", grid.height), ("width", grid.width)]
        .into_iter()
        .filter(|(_, pixels)| pixels % value != 0)
        .map(|(name, pixels)| format!("{name}: {pixels} / {value} = {}", suggest::quotient(pixels, value)))
        .collect();
    if rests.is_empty() {
        return Ok(());
    }
    let hint = patches_that_work(value, strides, grid, &default_mask());
    let message =
        format!("`patch` is {value}, which does not divide the input's {}; {hint}", suggest::join(&rests, "or"));
    scope.blame(patch, patch.value.span, message);
    Err(Wrong)
}

/// At least one patch is visible; one is always removed, as a mask is above 0.
fn some_patches_stay_visible(
    scope: &mut Scope<'_, '_>,
    patch: Written<'_, Number>,
    mask: &Setting<Written<'_, Fraction>>,
    strides: Strides,
    grid: &Grid,
) -> Result<(), Wrong> {
    let share = optional(mask, default_mask())?;
    let value = patch.value.value;
    let patches = (grid.height / value) * (grid.width / value);
    if visible(patches, &share) > 0 {
        return Ok(());
    }
    if patches == 1 {
        let hint = patches_that_work(value, strides, grid, &share);
        let message = format!(
            "`patch` is {value}, so one patch covers the whole input: it cannot be both visible and removed; {hint}"
        );
        scope.blame(patch, patch.value.span, message);
        return Err(Wrong);
    }
    let kept = Fraction { digits: share.one() - share.digits, ..share };
    let largest = (100 * (patches - 1) / patches) as f64 / 100.0;
    let message = format!(
        "floor({patches} patches x {kept}) = 0 stay visible; the largest share that leaves one is `mask: {largest}`"
    );
    match mask.given() {
        Some(mask) => scope.blame(*mask, mask.value.span, format!("`mask` is {share}: {message}")),
        None => scope.blame(patch, patch.value.span, format!("`mask` is {share} if not set: {message}")),
    }
    Err(Wrong)
}

/// `floor(patches * (1 - mask))`, in whole numbers: 10 patches at 0.3 leave 7, where floating point finds 6.99... .
fn visible(patches: u64, mask: &Fraction) -> u64 {
    let kept = u128::from(mask.one().saturating_sub(mask.digits));
    (u128::from(patches) * kept / u128::from(mask.one())) as u64
}

/// The nearest patches that hold whole cells, fill the input and leave some visible.
fn patches_that_work(value: u64, strides: Strides, grid: &Grid, mask: &Fraction) -> String {
    let works = |patch: &u64| {
        let divides = grid.height.is_multiple_of(*patch) && grid.width.is_multiple_of(*patch);
        divides && visible((grid.height / patch) * (grid.width / patch), mask) > 0
    };
    let total = strides.total();
    let candidates = (1..=grid.height / total).map(|cells| cells * total);
    match suggest::nearest_numbers(value, candidates.filter(works).collect()).as_slice() {
        [] => "no patch works here; use a larger input, a smaller stem or fewer stages".into(),
        working => format!("patches that work: {}", suggest::numbers(working)),
    }
}
