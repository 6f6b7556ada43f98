//! The instruction set, chosen once and passed as a value.

use std::{env, fmt, ops::Range, str::FromStr, sync::OnceLock};

use pulp::WithSimd;

/// An instruction set that this machine has.
#[derive(Clone, Copy, Debug)]
pub enum Level {
    /// What every machine of the architecture has.
    Scalar,
    /// x86-64-v3: AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    V3(pulp::x86::V3),
    /// x86-64-v4: AVX-512.
    #[cfg(target_arch = "x86_64")]
    V4(pulp::x86::V4),
    /// NEON, with FMA.
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
}

/// The name of a level that is unknown, or that this machine lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no SIMD level `{name}` here; available: {available}")]
pub struct ParseLevelError {
    name: String,
    available: String,
}

/// Another level is in use already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the SIMD level `{current}` is in use; it cannot become `{name}`")]
pub struct ForceLevelError {
    name: &'static str,
    current: &'static str,
}

static CURRENT: OnceLock<Level> = OnceLock::new();

impl Level {
    /// The environment variable that forces a level: `scalar`, `v3` or `v4`, on AArch64 `scalar` or `neon`.
    pub const VARIABLE: &'static str = "CONVNEXT_LEVEL";

    /// The best level of this machine. Under miri, which knows no instruction sets, the scalar one.
    pub fn detect() -> Self {
        *Self::available().last().expect("the scalar level is everywhere")
    }

    /// All levels of this machine, slowest first.
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Self::Scalar];
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            levels.extend(pulp::x86::V3::try_new().map(Self::V3));
            levels.extend(pulp::x86::V4::try_new().map(Self::V4));
        }
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        levels.extend(pulp::aarch64::Neon::try_new().map(Self::Neon));
        levels
    }

    /// The level of this process: [`Self::VARIABLE`] if set, else [`Self::detect`]. Chosen at the first call.
    ///
    /// Panics if the variable names a level that is unknown or missing here.
    pub fn current() -> Self {
        *CURRENT.get_or_init(|| match env::var(Self::VARIABLE) {
            Ok(name) => name.parse().unwrap_or_else(|error| panic!("{}: {error}", Self::VARIABLE)),
            Err(_) => Self::detect(),
        })
    }

    /// Makes this the level of the process, whatever [`Self::VARIABLE`] says.
    ///
    /// An error if another one is in use already.
    pub fn force(self) -> Result<(), ForceLevelError> {
        let current = CURRENT.get_or_init(|| self).name();
        if current == self.name() { Ok(()) } else { Err(ForceLevelError { name: self.name(), current }) }
    }

    /// Its instruction set in words.
    pub fn instructions(self) -> &'static str {
        match self {
            Self::Scalar => "baseline instructions",
            #[cfg(target_arch = "x86_64")]
            Self::V3(_) => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Self::V4(_) => "AVX-512",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "NEON",
        }
    }

    /// Name, as [`Self::VARIABLE`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Self::V3(_) => "v3",
            #[cfg(target_arch = "x86_64")]
            Self::V4(_) => "v4",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
        }
    }

    /// `channels` cut by the vectors that fit: of this level's width first, then of half of it, then what is left.
    ///
    /// 40 channels are two vectors of 16 and one of 8; a third of 16 that is half empty takes a masked load and longer.
    pub(crate) fn lanes(self, channels: usize) -> impl Iterator<Item = (Self, Range<usize>)> {
        #[cfg(target_arch = "x86_64")]
        let cuts = match self {
            Self::V4(simd) => [(self, channels / 16 * 16), (Self::V3(*simd), channels / 8 * 8), (self, channels)],
            _ => [(self, channels); 3],
        };
        #[cfg(not(target_arch = "x86_64"))]
        let cuts = [(self, channels)];
        let mut start = 0;
        cuts.into_iter().filter_map(move |(level, end)| {
            let range = start..end;
            start = end;
            (!range.is_empty()).then_some((level, range))
        })
    }

    /// This level, or if its vectors do not fill rows of `channels` the one of half as wide vectors.
    pub(crate) fn filled_by(self, channels: usize) -> Self {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::V4(simd) if !channels.is_multiple_of(16) => Self::V3(*simd),
            _ => {
                let _ = channels;
                self
            }
        }
    }

    /// Runs an operation written with explicit vectors, at this level's width.
    #[inline]
    pub(crate) fn run<O: WithSimd>(self, operation: O) -> O::Output {
        match self {
            Self::Scalar => pulp::Simd::vectorize(pulp::Scalar, operation),
            #[cfg(target_arch = "x86_64")]
            Self::V3(simd) => pulp::Simd::vectorize(simd, operation),
            #[cfg(target_arch = "x86_64")]
            Self::V4(simd) => pulp::Simd::vectorize(simd, operation),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => pulp::Simd::vectorize(simd, operation),
        }
    }

    /// Runs one of two instances of a function, compiled for this level. See `dispatch!`.
    #[inline]
    pub(crate) fn call<I, O>(self, input: I, plain: impl FnOnce(I) -> O, fused: impl FnOnce(I) -> O) -> O {
        let _ = &fused; // unused where there is only the scalar level
        match self {
            Self::Scalar => plain(input),
            #[cfg(target_arch = "x86_64")]
            Self::V3(simd) => pulp::Simd::vectorize(simd, Call { input, function: fused }),
            #[cfg(target_arch = "x86_64")]
            Self::V4(simd) => pulp::Simd::vectorize(simd, Call { input, function: fused }),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => pulp::Simd::vectorize(simd, Call { input, function: fused }),
        }
    }
}

struct Call<I, F> {
    input: I,
    function: F,
}

impl<I, O, F: FnOnce(I) -> O> WithSimd for Call<I, F> {
    type Output = O;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> O {
        (self.function)(self.input)
    }
}

/// `dispatch!(level, body(a, b))`: calls `body::<A>(a, b)`, compiled for the level.
///
/// `body` is `#[inline(always)]` and generic over [`Arithmetic`]; its arguments are names. So is everything it calls,
/// and it holds no closures: a function that stays out of line is compiled without the level's instructions.
macro_rules! dispatch {
    ($level:expr, $body:ident($($argument:ident),+ $(,)?)) => {{
        $crate::profile::timed!(Kernel, stringify!($body));
        $level.call(
            ($($argument,)+),
            #[inline(always)]
            |($($argument,)+)| $body::<$crate::simd::Plain>($($argument),+),
            #[inline(always)]
            |($($argument,)+)| $body::<$crate::simd::Fused>($($argument),+),
        )
    }};
}

pub(crate) use dispatch;

/// How to multiply and add: in one rounding where that is one instruction, in two where it would be a library call.
pub(crate) trait Arithmetic {
    /// `a * b + c`.
    fn multiply_add(a: f32, b: f32, c: f32) -> f32;
}

/// For the scalar level.
pub(crate) struct Plain;

/// For levels that have FMA.
pub(crate) struct Fused;

impl Arithmetic for Plain {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        if cfg!(target_arch = "aarch64") { a.mul_add(b, c) } else { a * b + c }
    }
}

impl Arithmetic for Fused {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Level {
    type Err = ParseLevelError;

    fn from_str(name: &str) -> Result<Self, ParseLevelError> {
        let available = Self::available();
        let names = || available.iter().map(|level| level.name()).collect::<Vec<_>>().join(", ");
        let found = available.iter().find(|level| level.name() == name).copied();
        found.ok_or_else(|| ParseLevelError { name: name.to_owned(), available: names() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_answers_to_its_name() {
        for level in Level::available() {
            assert_eq!(level.to_string().parse::<Level>().unwrap().name(), level.name());
        }
        let error = "v9".parse::<Level>().unwrap_err();
        assert!(error.to_string().contains("no SIMD level `v9` here; available: scalar"), "{error}");
    }
}
