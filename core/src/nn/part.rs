//! What a typed model consists of.

use dfdx::nn::modules::Repeated;

use super::{drop_path::DropPath, operation::ModuleOperation, tensor::Parameter};
use crate::simd::Precision;

/// A typed module that is one operation.
pub trait Part {
    /// Its operation, with its settings as they are now.
    fn operation(&self) -> Box<dyn ModuleOperation>;

    /// Its tensors, in the order of declaration.
    fn tensors(&self) -> Vec<&dyn Parameter>;

    /// Sets the precision of products.
    fn set_precision(&mut self, precision: Precision);

    /// Its drop path, if it has one.
    fn drop_path(&mut self) -> Option<&mut DropPath> {
        None
    }
}

/// A typed module made of parts, each of which takes the output of the one before it.
pub trait Parts {
    /// The parts, first to last.
    fn parts(&self) -> Vec<&dyn Part>;

    /// The same, to be changed.
    fn parts_mut(&mut self) -> Vec<&mut dyn Part>;
}

impl<P: Part> Parts for P {
    fn parts(&self) -> Vec<&dyn Part> {
        vec![self]
    }

    fn parts_mut(&mut self) -> Vec<&mut dyn Part> {
        vec![self]
    }
}

impl<P: Part, const N: usize> Parts for Repeated<P, N> {
    fn parts(&self) -> Vec<&dyn Part> {
        self.modules.iter().map(|part| part as &dyn Part).collect()
    }

    fn parts_mut(&mut self) -> Vec<&mut dyn Part> {
        self.modules.iter_mut().map(|part| part as &mut dyn Part).collect()
    }
}
