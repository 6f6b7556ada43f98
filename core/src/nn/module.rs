//! One declaration per module for its tensors: names, shapes and how they start.

/// Nests expressions or patterns in pairs, so that any number of fields fits dfdx's tuples.
macro_rules! nest {
    ($only:expr) => { ($only, ()) };
    ($first:expr, $($rest:expr),+) => { ($first, nest!($($rest),+)) };
}

/// Patterns for [`nest!`].
macro_rules! nested {
    ($only:ident) => { ($only, ()) };
    ($first:ident, $($rest:ident),+) => { ($first, nested!($($rest),+)) };
}

/// Declares a module: a struct of tensors with constant shapes that dfdx can build, visit and convert.
macro_rules! typed_module {
    (
        $(#[$meta:meta])*
        pub struct $name:ident<$($size:ident),+> {
            $($(#[$doc:meta])* $field:ident, $path:literal: ($($dim:tt),+) = $options:expr;)+
        }
        $(state { $($(#[$state_doc:meta])* $state:ident: $state_type:ty;)+ })?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        pub struct $name<$(const $size: usize,)+ E: Dtype = f32, D: Device<E> = Cpu> {
            $($(#[$doc])* pub $field: Tensor<($(Const<$dim>,)+), E, D>,)+
            $($($(#[$state_doc])* pub $state: $state_type,)+)?
        }

        impl<$(const $size: usize,)+ E: Dtype, D: Device<E>> TensorCollection<E, D> for $name<$($size,)+ E, D> {
            type To<E2: Dtype, D2: Device<E2>> = $name<$($size,)+ E2, D2>;

            fn iter_tensors<V: ModuleVisitor<Self, E, D>>(
                visitor: &mut V,
            ) -> Result<Option<Self::To<V::E2, V::D2>>, V::Err> {
                visitor.visit_fields(
                    nest!($(Self::tensor($path, |s| &s.$field, |s| &mut s.$field, $options)),+),
                    |nested!($($field),+)| $name { $($field,)+ $($($state: Default::default(),)+)? },
                )
            }
        }

        impl<$(const $size: usize,)+ E0, D0, E, D> BuildOnDevice<D, E> for $name<$($size,)+ E0, D0>
        where
            E0: Dtype, D0: Device<E0>, E: Dtype, D: Device<E>,
        {
            type Built = $name<$($size,)+ E, D>;
        }

        impl<$(const $size: usize,)+> $name<$($size,)+ f32, Cpu> {
            fn list(&self) -> Vec<&dyn Parameter> {
                vec![$(&self.$field),+]
            }
        }
    };
}
