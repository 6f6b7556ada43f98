//! One declaration per operation for its weights, their gradients and their lengths.

/// Declares `Weights` and `Gradients` of an operation: named slices whose lengths follow from its `Shape`.
macro_rules! parameters {
    (for $shapes:ty; $($(#[$doc:meta])* $name:ident: |$shape:ident| $length:expr;)+) => {
        /// The parameters, borrowed.
        #[derive(Debug, Clone, Copy)]
        pub struct Weights<'a, T = f32> {
            $($(#[$doc])* pub $name: &'a [T],)+
        }

        /// The gradients of the parameters; added to, never overwritten.
        #[derive(Debug)]
        pub struct Gradients<'a, T = f32> {
            $($(#[$doc])* pub $name: &'a mut [T],)+
        }

        impl<'a, T> Weights<'a, T> {
            /// Cuts one buffer of [`Shape::parameters`] values, the fields in order.
            pub fn split(flat: &'a [T], shape: &$shapes) -> Self {
                let mut rest = flat;
                $(
                    let $shape = shape;
                    let ($name, tail) = rest.split_at($length);
                    rest = tail;
                )+
                assert!(rest.is_empty(), "the buffer is longer than the parameters");
                Self { $($name),+ }
            }

            fn check(&self, shape: &$shapes) {
                $({
                    let $shape = shape;
                    assert_eq!(self.$name.len(), $length, concat!("length of ", stringify!($name)));
                })+
            }
        }

        impl<'a, T> Gradients<'a, T> {
            /// Cuts one buffer of [`Shape::parameters`] values, the fields in order.
            pub fn split(flat: &'a mut [T], shape: &$shapes) -> Self {
                let mut rest = flat;
                $(
                    let $shape = shape;
                    let ($name, tail) = rest.split_at_mut($length);
                    rest = tail;
                )+
                assert!(rest.is_empty(), "the buffer is longer than the parameters");
                Self { $($name),+ }
            }

            fn check(&self, shape: &$shapes) {
                $({
                    let $shape = shape;
                    assert_eq!(self.$name.len(), $length, concat!("length of the gradient of ", stringify!($name)));
                })+
            }
        }

        impl Gradients<'_, f32> {
            /// Adds buffers of [`Shape::parameters`] values, the fields in order.
            fn add(&mut self, buffers: &[$crate::ops::scratch::Buffer]) {
                let mut start = 0;
                $(
                    $crate::ops::parallel::add_all(self.$name, buffers, start);
                    start += self.$name.len();
                )+
                debug_assert!(buffers.iter().all(|buffer| buffer.len() == start));
            }
        }

        impl $shapes {
            /// Number of parameters.
            pub fn parameters(&self) -> usize {
                0 $(+ { let $shape = self; $length })+
            }
        }
    };
}
