//! The residual block as a module, in both flavours.

use dfdx::prelude::*;

use super::{
    drop_path::DropPath,
    initialise::{layer_scale, normal},
    operation::{Backward, ModuleOperation, Operation, Pass},
    part::Part,
    sparse::{Patches, Sparse},
    tape::record,
    tensor::{Error, Parameter},
};
use crate::{
    ops::block::{self, Flavour, Frozen, Gradients, Layer, Saved, Weights},
    simd::Precision,
};

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
        /// Of the products.
        precision: Precision;
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
        /// Of the products.
        precision: Precision;
    }
}

/// A block, with its parameters left out.
#[derive(Debug)]
struct Operator {
    sizes: Sizes,
    drop_path: DropPath,
    /// Draws for the drop path when it has no keys.
    device: Cpu,
    frozen: Option<Frozen>,
}

/// What both passes of a block need of it.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Height and width of the whole grid.
    grid: (usize, usize),
    layer: Layer,
    precision: Precision,
}

impl Sizes {
    fn shape(self, pass: &Pass) -> block::Shape<'_> {
        let Layer { channels, hidden, kernel, flavour } = self.layer;
        block::Shape { samples: pass.samples, cells: pass.cells(self.grid), channels, hidden, kernel, flavour }
    }
}

impl Operation for Operator {
    fn parameters(&self) -> usize {
        self.sizes.layer.parameters()
    }

    fn output(&self, pass: &Pass) -> usize {
        self.sizes.shape(pass).activation()
    }

    fn forward(&self, pass: &Pass, weights: &[f32], x: &[f32], out: &mut [f32]) -> Option<Backward> {
        let drop = pass.drops.then(|| self.drop_path.scales(pass.samples, || self.device.random_u64())).flatten();
        let (sizes, mut saved) = (self.sizes, Saved::default());
        let (shape, frozen) = (sizes.shape(pass), self.frozen.as_ref());
        let (weights, saving) = (Weights::split(weights, &shape), pass.keeps.then_some(&mut saved));
        block::forward_frozen(frozen, sizes.precision, &shape, &weights, drop.as_deref(), x, out, saving);
        pass.keeps.then(|| backward(sizes, pass.clone(), drop, saved))
    }
}

impl ModuleOperation for Operator {
    fn set_precision(&mut self, precision: Precision) {
        self.sizes.precision = precision;
    }

    fn drop_path(&mut self) -> Option<&mut DropPath> {
        Some(&mut self.drop_path)
    }

    fn frozen(&self) -> Box<dyn ModuleOperation> {
        let Self { sizes, drop_path, device, .. } = self;
        let (drop_path, device) = (drop_path.clone(), device.clone());
        Box::new(Self { sizes: *sizes, drop_path, device, frozen: Some(Frozen::default()) })
    }
}

fn backward(sizes: Sizes, pass: Pass, drop: Option<Vec<f32>>, saved: Saved) -> Backward {
    Box::new(move |gradient| {
        let shape = sizes.shape(&pass);
        block::backward(
            sizes.precision,
            &shape,
            &Weights::split(gradient.weights, &shape),
            drop.as_deref(),
            gradient.x,
            &saved,
            gradient.grad_out,
            gradient.grad_x,
            Gradients::split(gradient.gradients, &shape),
        );
    })
}

/// The same implementations for both flavours: they differ in their tensors only.
macro_rules! block_modules {
    ($block:ident, $flavour:expr) => {
        impl<const H: usize, const W: usize, const DIM: usize, const HIDDEN: usize, const K: usize>
            $block<H, W, DIM, HIDDEN, K>
        {
            fn dense<B: Dim, T: Tape<f32, Cpu>>(
                &self,
                x: Tensor<(B, Const<H>, Const<W>, Const<DIM>), f32, Cpu, T>,
                drops: bool,
            ) -> Result<Tensor<(B, Const<H>, Const<W>, Const<DIM>), f32, Cpu, T>, Error> {
                let shape = *x.shape();
                record(&[self], x, shape, None, drops)
            }

            fn sparse<const V: usize, const P: usize, B: Dim, T: Tape<f32, Cpu>>(
                &self,
                x: Patches<B, V, P, DIM, T>,
                drops: bool,
            ) -> Result<Patches<B, V, P, DIM, T>, Error> {
                let Sparse { tensor, visible } = x;
                let shape = *tensor.shape();
                let tensor = record(&[self], tensor, shape, Some(&visible), drops)?;
                Ok(Sparse { tensor, visible })
            }
        }

        impl<const H: usize, const W: usize, const DIM: usize, const HIDDEN: usize, const K: usize> Part
            for $block<H, W, DIM, HIDDEN, K>
        {
            fn operation(&self) -> Box<dyn ModuleOperation> {
                let layer = Layer { channels: DIM, hidden: HIDDEN, kernel: K, flavour: $flavour };
                Box::new(Operator {
                    sizes: Sizes { grid: (H, W), layer, precision: self.precision },
                    drop_path: self.drop_path.clone(),
                    device: self.dwconv_bias.device().clone(),
                    frozen: None,
                })
            }

            fn tensors(&self) -> Vec<&dyn Parameter> {
                self.list()
            }

            fn set_precision(&mut self, precision: Precision) {
                self.precision = precision;
            }

            fn drop_path(&mut self) -> Option<&mut DropPath> {
                Some(&mut self.drop_path)
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
                self.dense(x, false)
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
                self.dense(x, true)
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
                self.sparse(x, false)
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
                self.sparse(x, true)
            }
        }
    };
}

block_modules!(Block, Flavour::V2);
block_modules!(BlockV1, Flavour::V1);
