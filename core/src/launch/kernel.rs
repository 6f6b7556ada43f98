//! Kernel files and their constants.

use std::fmt::Write;

use super::element::Element;
use crate::epsilon;

/// What every kernel file begins with.
const COMMON: &str = include_str!("kernels/common.cuh");

/// A kernel file.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Its name, as messages show it.
    pub name: &'static str,
    /// Its text, without the common part.
    pub text: &'static str,
    /// The kernels in it that every set of constants has.
    pub kernels: &'static [&'static str],
}

/// A kernel file with its constants: what is compiled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Module {
    /// The file.
    pub source: &'static Source,
    /// Constants by name, in the order in which they were given.
    pub constants: Vec<(&'static str, String)>,
}

impl Module {
    /// A file whose activations are stored as `real`.
    pub fn new(source: &'static Source, real: Element) -> Self {
        let constant = |value: f64| format!("{value:e}f");
        let constants = vec![
            ("REAL", real.c_type().into()),
            ("LAYER_NORM_EPSILON", constant(epsilon::LAYER_NORM)),
            ("GRN_EPSILON", constant(epsilon::GRN)),
            ("TARGET_EPSILON", constant(epsilon::TARGET)),
        ];
        Self { source, constants }
    }

    /// With one more constant.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: usize) -> Self {
        self.constants.push((name, value.to_string()));
        self
    }

    /// With one more constant that is 0 or 1.
    #[must_use]
    pub fn with_flag(self, name: &'static str, value: bool) -> Self {
        self.with(name, usize::from(value))
    }

    /// The text that a compiler gets: common part and file. Constants come as options, or as [`Module::defines`].
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, part) in [("common.cuh", COMMON), (self.source.name, self.source.text)] {
            let _ = writeln!(text, "#line 1 \"{name}\"\n{part}");
        }
        text
    }

    /// The constants as compiler options, `-DNAME=VALUE`.
    pub fn options(&self) -> Vec<String> {
        self.constants.iter().map(|(name, value)| format!("-D{name}={value}")).collect()
    }

    /// The constants as preprocessor lines.
    pub fn defines(&self) -> String {
        self.constants.iter().map(|(name, value)| format!("#define {name} {value}\n")).collect()
    }
}
