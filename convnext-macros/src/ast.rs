//! The declaration as it was written, every value with its place.

use crate::error::Wrong;
use proc_macro2::{Ident, Span};
use std::fmt;
use syn::{Attribute, Visibility};

/// One `convnext!` block.
#[derive(Debug, Default)]
pub(crate) struct Spec {
    pub(crate) families: Vec<Declaration>,
    pub(crate) models: Vec<Declaration>,
}

impl Spec {
    /// The family a model names, if it names one that exists.
    pub(crate) fn family_of(&self, model: &Declaration) -> Option<&Declaration> {
        let name = model.family.as_ref()?;
        self.families.iter().find(|family| family.name == *name)
    }
}

/// `pub model Name: Family { ... }` or `pub family Name { ... }`.
#[derive(Debug)]
pub(crate) struct Declaration {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) name: Ident,
    /// What follows the colon; models only.
    pub(crate) family: Option<Ident>,
    pub(crate) settings: Settings,
    /// Whether its types can be emitted; not if their names are taken.
    pub(crate) has_names: bool,
}

/// A setting of a declaration.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) enum Setting<T> {
    /// Not written.
    #[default]
    Absent,
    /// Written, but wrong and reported: nothing that depends on it is checked.
    Wrong,
    /// Written.
    Given(T),
}

impl<T> Setting<T> {
    /// The value, if it was given and is right so far.
    pub(crate) fn given(&self) -> Option<&T> {
        match self {
            Self::Given(value) => Some(value),
            _ => None,
        }
    }

    /// Whether it was not written.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    fn wrong_if_absent(&mut self) {
        if self.is_absent() {
            *self = Self::Wrong;
        }
    }

    /// Applies a check that has reported what it refuses.
    pub(crate) fn keep_if(&mut self, check: impl FnOnce(&T) -> bool) {
        if self.given().is_some_and(|value| !check(value)) {
            *self = Self::Wrong;
        }
    }
}

/// The settings of a model or a family.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) input: Setting<Input>,
    pub(crate) stem: Setting<Number>,
    pub(crate) stages: Setting<Stages>,
    pub(crate) head: Setting<Number>,
    pub(crate) block: Setting<Flavour>,
    pub(crate) kernel: Setting<Number>,
    pub(crate) drop_path: Setting<Fraction>,
    pub(crate) fcmae: Setting<Pretraining>,
}

impl Settings {
    /// Those of a declaration that could not be read, which has been reported.
    pub(crate) fn unreadable() -> Self {
        Self {
            input: Setting::Wrong,
            stem: Setting::Wrong,
            stages: Setting::Wrong,
            head: Setting::Wrong,
            block: Setting::Wrong,
            kernel: Setting::Wrong,
            drop_path: Setting::Wrong,
            fcmae: Setting::Wrong,
        }
    }

    /// Counts a setting that was misspelt as written, so that it is not reported missing as well.
    pub(crate) fn misspelt(&mut self, name: &str) {
        match name {
            "input" => self.input.wrong_if_absent(),
            "stem" => self.stem.wrong_if_absent(),
            "stages" => self.stages.wrong_if_absent(),
            "head" => self.head.wrong_if_absent(),
            "block" => self.block.wrong_if_absent(),
            "kernel" => self.kernel.wrong_if_absent(),
            "drop_path" => self.drop_path.wrong_if_absent(),
            _ => self.fcmae.wrong_if_absent(),
        }
    }
}

/// A whole number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number {
    pub(crate) value: u64,
    pub(crate) span: Span,
}

impl Number {
    /// A default, written nowhere.
    pub(crate) fn default_value(value: u64) -> Self {
        Self { value, span: Span::call_site() }
    }
}

/// A number with decimals, `digits / 10^scale`, kept exact.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fraction {
    pub(crate) digits: u64,
    pub(crate) scale: u32,
    pub(crate) span: Span,
}

impl Fraction {
    /// `digits / 10^scale`, a default, written nowhere.
    pub(crate) fn default_value(digits: u64, scale: u32) -> Self {
        Self { digits, scale, span: Span::call_site() }
    }

    /// One, in units of the last digit.
    pub(crate) fn one(&self) -> u64 {
        10u64.pow(self.scale)
    }

    /// The nearest `f32`.
    pub(crate) fn as_f32(&self) -> f32 {
        (self.digits as f64 / self.one() as f64) as f32
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.digits as f64 / self.one() as f64)
    }
}

/// `height x width x channels`; a part that is wrong has been reported.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input {
    pub(crate) height: Result<Number, Wrong>,
    pub(crate) width: Result<Number, Wrong>,
    pub(crate) channels: Result<Number, Wrong>,
}

/// `[stage, ...]`; a stage that is wrong has been reported, and still counts as one.
#[derive(Debug)]
pub(crate) struct Stages {
    pub(crate) list: Vec<Result<Stage, Wrong>>,
    pub(crate) span: Span,
}

/// `dim x depth kernel k`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stage {
    pub(crate) dim: Number,
    pub(crate) depth: Number,
    pub(crate) kernel: Option<Number>,
}

/// Block flavour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    V1,
    V2,
}

/// `fcmae: none` or `fcmae: { ... }`.
#[derive(Debug)]
pub(crate) enum Pretraining {
    Off,
    On(Fcmae),
}

impl Fcmae {
    /// As [`Settings::misspelt`].
    pub(crate) fn misspelt(&mut self, name: &str) {
        match name {
            "patch" => self.patch.wrong_if_absent(),
            "mask" => self.mask.wrong_if_absent(),
            "decoder" => self.decoder.wrong_if_absent(),
            "kernel" => self.kernel.wrong_if_absent(),
            _ => self.normalised.wrong_if_absent(),
        }
    }
}

/// The settings of the pre-training part.
#[derive(Debug)]
pub(crate) struct Fcmae {
    /// Where `fcmae` is written.
    pub(crate) span: Span,
    pub(crate) patch: Setting<Number>,
    pub(crate) mask: Setting<Fraction>,
    pub(crate) decoder: Setting<Decoder>,
    pub(crate) kernel: Setting<Number>,
    pub(crate) normalised: Setting<bool>,
}

/// `dim x depth`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decoder {
    pub(crate) dim: Number,
    pub(crate) depth: Number,
}
