//! One declaration per operation for its parameters: their names in checkpoints, their shapes, what they are.

/// What a parameter is to its layer: this decides how it starts, and whether weight decay acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The weights of a convolution or a linear layer, outputs on the last axis. Drawn; the only ones that decay.
    Weight,
    /// The bias of one. Starts at 0.
    Bias,
    /// The scale of a layer normalisation. Starts at 1.
    NormScale,
    /// The shift of a layer normalisation. Starts at 0.
    NormShift,
    /// Scale or shift of a global response normalisation. Starts at 0.
    Response,
    /// LayerScale. Starts at 1e-6.
    LayerScale,
    /// What stands in for removed cells. Drawn.
    Token,
}

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Start {
    /// Every value the same.
    Constant(f32),
    /// Drawn from a truncated normal distribution.
    Normal,
}

impl Role {
    /// How such a parameter starts.
    pub const fn start(self) -> Start {
        match self {
            Self::Weight | Self::Token => Start::Normal,
            Self::Bias | Self::NormShift | Self::Response => Start::Constant(0.0),
            Self::NormScale => Start::Constant(1.0),
            Self::LayerScale => Start::Constant(1e-6),
        }
    }

    /// Whether weight decay acts on it.
    pub const fn decays(self) -> bool {
        matches!(self, Self::Weight)
    }
}

/// A parameter of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its name in checkpoints, within that of its layer.
    pub name: &'static str,
    /// Its layer; the outputs of a weight are the last.
    pub shape: Vec<usize>,
    /// What it is.
    pub role: Role,
}

/// `each` multiply-adds at each of `cells` cells; `u64::MAX` if there are more.
pub(super) const fn multiply_adds(cells: usize, each: usize) -> u64 {
    let sum = cells as u128 * each as u128;
    if sum > u64::MAX as u128 { u64::MAX } else { sum as u64 }
}

/// Declares the parameters of an operation, and with them `Weights` and `Gradients`: named slices whose lengths follow from
/// its `Layer`.
///
/// A parameter of length 0 is one that an operation of these layer does not have.
macro_rules! parameters {
    (for $shapes:ty; $(
        $(#[$doc:meta])* $field:ident: $role:ident $name:literal, |$s:ident| [$($dim:expr),+];
    )+) => {
        /// One value for each parameter: slices of numbers, or places on a device.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct Parameters<P> {
            $($(#[$doc])* pub $field: P,)+
        }

        /// The parameters, borrowed.
        pub type Weights<'a, T = f32> = Parameters<&'a [T]>;

        /// The gradients of the parameters; added to, never overwritten.
        pub type Gradients<'a, T = f32> = Parameters<&'a mut [T]>;

        impl Layer {
            /// Number of parameters.
            pub const fn parameters(&self) -> usize {
                0 $(+ { let $s = self; 1 $(* $dim)+ })+
            }

            /// The parameters, in order.
            pub fn declared(&self) -> Vec<$crate::ops::Declared> {
                use $crate::ops::{Declared, Role};
                let all = [$({
                    let $s = self;
                    Declared { name: $name, shape: vec![$($dim),+], role: Role::$role }
                }),+];
                all.into_iter().filter(|declared| !declared.shape.contains(&0)).collect()
            }
        }

        impl $shapes {
            /// Number of parameters.
            pub fn parameters(&self) -> usize {
                self.layer().parameters()
            }
        }

        impl<P: Default> Parameters<P> {
            /// What `get` gives for each parameter's name in checkpoints and its length. It is not asked for those that an
            /// operation of these layer does not have.
            pub fn named(layer: &Layer, mut get: impl FnMut(&'static str, usize) -> P) -> Self {
                let mut next = |name, length| if length == 0 { P::default() } else { get(name, length) };
                Self { $($field: { let $s = layer; next($name, 1 $(* $dim)+) },)+ }
            }
        }

        impl<'a, T> Parameters<&'a [T]> {
            /// Cuts one buffer of [`Shape::parameters`] values, the fields in order.
            pub fn split(flat: &'a [T], shape: &$shapes) -> Self {
                let mut rest = flat;
                let all = Self::named(&shape.layer(), |_, length| {
                    let (first, tail) = rest.split_at(length);
                    rest = tail;
                    first
                });
                assert!(rest.is_empty(), "the buffer is longer than the parameters");
                all
            }

            fn check(&self, layer: &Layer) {
                $({
                    let $s = layer;
                    assert_eq!(self.$field.len(), 1 $(* $dim)+, concat!("length of ", stringify!($field)));
                })+
            }
        }

        impl<'a, T> Parameters<&'a mut [T]> {
            /// Cuts one buffer of [`Shape::parameters`] values, the fields in order.
            pub fn split(flat: &'a mut [T], shape: &$shapes) -> Self {
                let mut rest = flat;
                let all = Self::named(&shape.layer(), |_, length| {
                    let (first, tail) = std::mem::take(&mut rest).split_at_mut(length);
                    rest = tail;
                    first
                });
                assert!(rest.is_empty(), "the buffer is longer than the parameters");
                all
            }

            fn check(&self, layer: &Layer) {
                $({
                    let $s = layer;
                    let length = 1 $(* $dim)+;
                    assert_eq!(self.$field.len(), length, concat!("length of the gradient of ", stringify!($field)));
                })+
            }
        }

        impl Gradients<'_> {
            /// Adds buffers of [`Shape::parameters`] values, the fields in order.
            fn add(&mut self, buffers: &[$crate::scratch::Buffer]) {
                let mut start = 0;
                $(
                    $crate::ops::parallel::add_all(self.$field, buffers, start);
                    start += self.$field.len();
                )+
                debug_assert!(buffers.iter().all(|buffer| buffer.len() == start));
            }
        }
    };
}
