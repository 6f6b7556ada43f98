//! The declaration as it was written, every value with its place.

use crate::error::{Errors, Wrong};
use proc_macro2::{Ident, Span, TokenTree};
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

impl<T: Value> Setting<T> {
    /// Reads the value; the first of two wins, so that one mistake is one error.
    fn fill(&mut self, entry: &Entry, errors: &mut Errors) {
        if !self.is_absent() {
            return errors.add(entry.span, format!("`{}` is set twice; remove one of them", entry.name));
        }
        *self = match T::read(entry, errors) {
            Ok(value) => Self::Given(value),
            Err(Wrong) => Self::Wrong,
        };
    }
}

/// One setting as it is written, `key: value`.
pub(crate) struct Entry {
    /// The key.
    pub(crate) name: String,
    /// Where the key stands.
    pub(crate) span: Span,
    pub(crate) value: Vec<TokenTree>,
}

impl Entry {
    /// How the setting is written.
    pub(crate) fn example(&self) -> String {
        format!("{}: {}", self.name, example(&self.name))
    }
}

/// What a setting holds.
pub(crate) trait Value: Sized {
    /// Reads it; what is wrong with it is reported where it stands.
    fn read(entry: &Entry, errors: &mut Errors) -> Result<Self, Wrong>;
}

/// Declares settings once: their names, in the order messages list them, what each holds, and how it is written.
macro_rules! settings {
    ($(#[$doc:meta])* $group:ident { $($setting:ident: $value:ty, $example:literal;)+ } $(beside $beside:ident: $type:ty)?) => {
        $(#[$doc])*
        pub(crate) struct $group {
            $(pub(crate) $setting: Setting<$value>,)+
            $(
                /// Where they are written.
                pub(crate) $beside: $type,
            )?
        }

        impl $group {
            /// The names.
            pub(crate) const NAMES: &[&str] = &[$(stringify!($setting)),+];

            /// All of them alike: absent, or of a declaration that could not be read, which has been reported.
            pub(crate) fn all(is_wrong: bool $(, $beside: $type)?) -> Self {
                Self { $($setting: if is_wrong { Setting::Wrong } else { Setting::Absent },)+ $($beside)? }
            }

            /// Reads a setting's value; false if there is no setting of that name.
            pub(crate) fn fill(&mut self, entry: &Entry, errors: &mut Errors) -> bool {
                match entry.name.as_str() {
                    $(stringify!($setting) => self.$setting.fill(entry, errors),)+
                    _ => return false,
                }
                true
            }

            /// Counts a setting that was misspelt as written, so that it is not reported missing as well.
            pub(crate) fn misspelt(&mut self, name: &str) {
                match name {
                    $(stringify!($setting) => self.$setting.wrong_if_absent(),)+
                    _ => {}
                }
            }

            fn example(name: &str) -> Option<&'static str> {
                match name {
                    $(stringify!($setting) => Some($example),)+
                    _ => None,
                }
            }
        }
    };
}

settings! {
    /// The settings of a model or a family.
    #[derive(Debug)]
    Settings {
        input: Input, "224 x 224 x 3";
        stem: Number, "4";
        stages: Stages, "[40 x 2, 80 x 2, 160 x 6, 320 x 2]";
        head: Number, "1000";
        block: Flavour, "V2";
        kernel: Number, "7";
        drop_path: Fraction, "0.1";
        fcmae: Pretraining, "{ patch: 32 }";
    }
}

settings! {
    /// The settings of the pre-training part.
    #[derive(Debug)]
    Fcmae {
        patch: Number, "32";
        mask: Fraction, "0.6";
        decoder: Decoder, "512 x 1";
        kernel: Number, "7";
        normalised: bool, "true";
    } beside span: Span
}

/// How a setting's value is written.
pub(crate) fn example(setting: &str) -> &'static str {
    Settings::example(setting).or_else(|| Fcmae::example(setting)).unwrap_or_default()
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

/// `dim x depth`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decoder {
    pub(crate) dim: Number,
    pub(crate) depth: Number,
}
