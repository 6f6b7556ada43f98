//! Every downsampling divides its grid, in height and in width.

use super::{Scope, Written, required};
use crate::ast::{Input, Number};
use crate::error::Wrong;
use crate::suggest;

/// Largest side that a suggestion names.
const LARGEST: u64 = 65536;

/// An input that every stage divides.
pub(super) struct Grid {
    pub(super) height: u64,
    pub(super) width: u64,
    pub(super) stem: u64,
}

/// How the stages divide the input.
#[derive(Clone, Copy)]
pub(super) struct Strides {
    pub(super) stem: u64,
    pub(super) stages: usize,
}

impl Strides {
    /// The strides of a model, whether or not they divide its input.
    pub(super) fn of(scope: &Scope<'_, '_>) -> Result<Self, Wrong> {
        let stem = required(scope.find(|settings| &settings.stem))?.value.value;
        let stages = required(scope.find(|settings| &settings.stages))?.value.list.len();
        Ok(Self { stem, stages })
    }

    /// Pixels to a side of one cell of the last grid.
    pub(super) fn total(self) -> u64 {
        self.stem << (self.stages - 1)
    }
}

/// Height or width.
struct Side {
    name: &'static str,
    adjective: &'static str,
    number: Number,
}

/// Checks both sides of the input.
pub(super) fn divides(scope: &mut Scope<'_, '_>) -> Result<Grid, Wrong> {
    let strides = Strides::of(scope)?;
    let input = required(scope.find(|settings| &settings.input))?;
    let Input { height, width, .. } = *input.value;
    let height = height.map(|number| Side { name: "height", adjective: "high", number });
    let width = width.map(|number| Side { name: "width", adjective: "wide", number });
    // Both sides are checked before the first `?`.
    let height = height.and_then(|side| side_divides(scope, input, side, strides));
    let width = width.and_then(|side| side_divides(scope, input, side, strides));
    Ok(Grid { height: height?, width: width?, stem: strides.stem })
}

fn side_divides(
    scope: &mut Scope<'_, '_>,
    input: Written<'_, Input>,
    side: Side,
    strides: Strides,
) -> Result<u64, Wrong> {
    let pixels = side.number.value;
    let Some(obstacle) = obstacle(&side, strides) else { return Ok(pixels) };
    let name = side.name;
    let working = suggest::numbers(&suggest::multiples(pixels, strides.total(), LARGEST));
    scope.blame(input, side.number.span, format!("{obstacle}; the nearest {name} that works: {working}"));
    Err(Wrong)
}

/// The first division that leaves a rest, with the arithmetic that led to it.
fn obstacle(side: &Side, strides: Strides) -> Option<String> {
    let (pixels, stem) = (side.number.value, strides.stem);
    if pixels % stem != 0 {
        let (name, quotient) = (side.name, suggest::quotient(pixels, stem));
        return Some(format!(
            "stem: patches of {stem} x {stem} do not divide a {name} of {pixels}; {pixels} / {stem} = {quotient}"
        ));
    }
    let mut cells = pixels / stem;
    let mut arithmetic = format!("{pixels} / {stem} = {cells}");
    for stage in 1..strides.stages {
        if cells % 2 != 0 {
            let adjective = side.adjective;
            return Some(format!("stage {stage}: a grid {cells} cells {adjective} cannot be halved; {arithmetic}"));
        }
        cells /= 2;
        arithmetic += &format!(" -> {cells}");
    }
    None
}
