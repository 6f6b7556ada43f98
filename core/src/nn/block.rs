//! The residual block as a module, in both flavours.

use dfdx::prelude::*;

use super::{
    drop_path::DropPath,
    initialise::{layer_scale, normal},
    sparse::{Geometry, Patches, Sparse},
    tape::{Error, Parameters, record},
};
use crate::ops::block::{self, Flavour, Gradients, Layer, Saved, Weights};

typed_module! {
    /// A ConvNeXt V2 block on `[N, H, W, DIM]`, or on visible patches `[N, K, P, P, DIM]` of that grid.
    ///
    /// The mathematics is in [`ops::block`](crate::ops::block). Drop path acts in `forward_mut` only.
    pub struct Block<H, W, DIM, HIDDEN, K> {
        /// Depthwise kernel, `[K, K, DIM]`.
        dwconv_weight, "dwconv.weight": (K, K, DIM) = normal();
        /// Its bias, `[DIM]`.
        dwconv_bias, "dwconv.bias": (DIM) = TensorOptions::reset_to_zeros();
        /// Scale of the normalisation, `[DIM]`.
        norm_weight, "norm.weight": (DIM) = TensorOptions::reset_to_ones();
        /// Shift of the normalisation, `[DIM]`.
        norm_bias, "norm.bias": (DIM) = TensorOptions::reset_to_zeros();
        /// First pointwise layer, `[DIM, HIDDEN]`.
        pwconv1_weight, "pwconv1.weight": (DIM, HIDDEN) = normal();
        /// Its bias, `[HIDDEN]`.
        pwconv1_bias, "pwconv1.bias": (HIDDEN) = TensorOptions::reset_to_zeros();
        /// Scale of the response normalisation, `[HIDDEN]`.
        grn_gamma, "grn.gamma": (HIDDEN) = TensorOptions::reset_to_zeros();
        /// Shift of the response normalisation, `[HIDDEN]`.
        grn_beta, "grn.beta": (HIDDEN) = TensorOptions::reset_to_zeros();
        /// Second pointwise layer, `[HIDDEN, DIM]`.
        pwconv2_weight, "pwconv2.weight": (HIDDEN, DIM) = normal();
        /// Its bias, `[DIM]`.
        pwconv2_bias, "pwconv2.bias": (DIM) = TensorOptions::reset_to_zeros();
    }
    state {
        /// Stochastic depth; off until configured.
        drop_path: DropPath;
    }
}

typed_module! {
    /// A ConvNeXt (V1) block: LayerScale on the residual branch in place of response normalisation.
    ///
    /// The mathematics is in [`ops::block`](crate::ops::block). Drop path acts in `forward_mut` only.
    pub struct BlockV1<H, W, DIM, HIDDEN, K> {
        /// Depthwise kernel, `[K, K, DIM]`.
        dwconv_weight, "dwconv.weight": (K, K, DIM) = normal();
        /// Its bias, `[DIM]`.
        dwconv_bias, "dwconv.bias": (DIM) = TensorOptions::reset_to_zeros();
        /// Scale of the normalisation, `[DIM]`.
        norm_weight, "norm.weight": (DIM) = TensorOptions::reset_to_ones();
        /// Shift of the normalisation, `[DIM]`.
        norm_bias, "norm.bias": (DIM) = TensorOptions::reset_to_zeros();
        /// First pointwise layer, `[DIM, HIDDEN]`.
        pwconv1_weight, "pwconv1.weight": (DIM, HIDDEN) = normal();
        /// Its bias, `[HIDDEN]`.
        pwconv1_bias, "pwconv1.bias": (HIDDEN) = TensorOptions::reset_to_zeros();
        /// Second pointwise layer, `[HIDDEN, DIM]`.
        pwconv2_weight, "pwconv2.weight": (HIDDEN, DIM) = normal();
        /// Its bias, `[DIM]`.
        pwconv2_bias, "pwconv2.bias": (DIM) = TensorOptions::reset_to_zeros();
        /// LayerScale, `[DIM]`.
        layer_scale_gamma, "layer_scale.gamma": (DIM) = layer_scale();
    }
    state {
        /// Stochastic depth; off until configured.
        drop_path: DropPath;
    }
}

fn shape(layer: Layer, samples: usize, geometry: &Geometry) -> block::Shape<'_> {
    let Layer { channels, hidden, kernel, flavour } = layer;
    block::Shape { samples, cells: geometry.cells(), channels, hidden, kernel, flavour }
}

fn run<S: Shape, T: Tape<f32, Cpu>>(
    layer: Layer,
    samples: usize,
    geometry: Geometry,
    parameters: Parameters,
    drop: Option<Vec<f32>>,
    x: Tensor<S, f32, Cpu, T>,
) -> Result<Tensor<S, f32, Cpu, T>, Error> {
    let out = *x.shape();
    let (kept, kept_drop) = (geometry.clone(), drop.clone());
    record(
        x,
        true,
        out,
        parameters,
        |x, parameters, out, keep| {
            let mut saved = Saved::default();
            let weights = Weights::named(&layer, |name, _| parameters.get(name));
            let shape = shape(layer, samples, &geometry);
            block::forward(&shape, &weights, drop.as_deref(), x, out, keep.then_some(&mut saved));
            saved
        },
        move |pass| {
            let mut gradients = pass.parameter_gradients;
            block::backward(
                &shape(layer, samples, &kept),
                &Weights::named(&layer, |name, _| pass.parameters.get(name)),
                kept_drop.as_deref(),
                pass.input,
                &pass.saved,
                pass.output_gradient,
                pass.input_gradient,
                Gradients::named(&layer, |name, _| gradients.take(name)),
            );
        },
    )
}

/// The same implementations for both flavours: they differ in their tensors only.
macro_rules! block_modules {
    ($block:ident, $flavour:expr) => {
        impl<const H: usize, const W: usize, const DIM: usize, const HIDDEN: usize, const K: usize>
            $block<H, W, DIM, HIDDEN, K>
        {
            const LAYER: Layer = Layer { channels: DIM, hidden: HIDDEN, kernel: K, flavour: $flavour };

            fn dense<B: Dim, T: Tape<f32, Cpu>>(
                &self,
                x: Tensor<(B, Const<H>, Const<W>, Const<DIM>), f32, Cpu, T>,
                drop: Option<Vec<f32>>,
            ) -> Result<Tensor<(B, Const<H>, Const<W>, Const<DIM>), f32, Cpu, T>, Error> {
                let samples = x.shape().0.size();
                let geometry = Geometry::Dense { height: H, width: W };
                run(Self::LAYER, samples, geometry, self.parameters(), drop, x)
            }

            fn sparse<const V: usize, const P: usize, B: Dim, T: Tape<f32, Cpu>>(
                &self,
                x: Patches<B, V, P, DIM, T>,
                drop: Option<Vec<f32>>,
            ) -> Result<Patches<B, V, P, DIM, T>, Error> {
                let Sparse { tensor, visible } = x;
                let samples = tensor.shape().0.size();
                let geometry = Geometry::Sparse { side: P, visible: visible.clone() };
                let tensor = run(Self::LAYER, samples, geometry, self.parameters(), drop, tensor)?;
                Ok(Sparse { tensor, visible })
            }

            fn drop(&self, samples: usize) -> Option<Vec<f32>> {
                let device = self.dwconv_bias.device();
                self.drop_path.scales(samples, || device.random_u64())
            }
        }

        impl<
            const H: usize,
            const W: usize,
            const DIM: usize,
            const HIDDEN: usize,
            const K: usize,
            B: Dim,
            T: Tape<f32, Cpu>,
        > Module<Tensor<(B, Const<H>, Const<W>, Const<DIM>), f32, Cpu, T>> for $block<H, W, DIM, HIDDEN, K>
        {
            type Output = Tensor<(B, Const<H>, Const<W>, Const<DIM>), f32, Cpu, T>;
            type Error = Error;

            fn try_forward(&self, x: Self::Output) -> Result<Self::Output, Error> {
                self.dense(x, None)
            }
        }

        impl<
            const H: usize,
            const W: usize,
            const DIM: usize,
            const HIDDEN: usize,
            const K: usize,
            B: Dim,
            T: Tape<f32, Cpu>,
        > ModuleMut<Tensor<(B, Const<H>, Const<W>, Const<DIM>), f32, Cpu, T>> for $block<H, W, DIM, HIDDEN, K>
        {
            type Output = Tensor<(B, Const<H>, Const<W>, Const<DIM>), f32, Cpu, T>;
            type Error = Error;

            fn try_forward_mut(&mut self, x: Self::Output) -> Result<Self::Output, Error> {
                let drop = self.drop(x.shape().0.size());
                self.dense(x, drop)
            }
        }

        impl<
            const H: usize,
            const W: usize,
            const DIM: usize,
            const HIDDEN: usize,
            const K: usize,
            const V: usize,
            const P: usize,
            B: Dim,
            T: Tape<f32, Cpu>,
        > Module<Patches<B, V, P, DIM, T>> for $block<H, W, DIM, HIDDEN, K>
        {
            type Output = Patches<B, V, P, DIM, T>;
            type Error = Error;

            fn try_forward(&self, x: Self::Output) -> Result<Self::Output, Error> {
                self.sparse(x, None)
            }
        }

        impl<
            const H: usize,
            const W: usize,
            const DIM: usize,
            const HIDDEN: usize,
            const K: usize,
            const V: usize,
            const P: usize,
            B: Dim,
            T: Tape<f32, Cpu>,
        > ModuleMut<Patches<B, V, P, DIM, T>> for $block<H, W, DIM, HIDDEN, K>
        {
            type Output = Patches<B, V, P, DIM, T>;
            type Error = Error;

            fn try_forward_mut(&mut self, x: Self::Output) -> Result<Self::Output, Error> {
                let drop = self.drop(x.tensor.shape().0.size());
                self.sparse(x, drop)
            }
        }
    };
}

block_modules!(Block, Flavour::V2);
block_modules!(BlockV1, Flavour::V1);
