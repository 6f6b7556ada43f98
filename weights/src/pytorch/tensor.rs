//! Tensors as a pickle describes them: windows on storages.

use std::rc::Rc;

use super::{
    Dtype,
    problem::{Part, Problem},
};

/// Most dimensions of a tensor. A convolution's weight has four.
pub(super) const RANK_CAP: usize = 8;

/// Where the elements of tensors lie, as the pickle says.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) key: Rc<str>,
    pub(super) dtype: Dtype,
    pub(super) elements: u64,
}

impl Storage {
    /// How many elements of a type it has room for.
    pub(super) fn elements_of(&self, dtype: Dtype) -> u64 {
        if dtype == self.dtype {
            return self.elements;
        }
        let bytes = self.elements.saturating_mul(self.dtype.width().into());
        bytes / u64::from(dtype.width().max(1))
    }

    /// Fails unless the storage takes `found` bytes.
    pub(super) fn check_len(&self, found: u64) -> Result<(), Problem> {
        let Self { elements, dtype, .. } = self;
        if elements.checked_mul(dtype.width().into()) == Some(found) {
            return Ok(());
        }
        let what = format!("has {found} bytes where {elements} elements of {dtype} were promised");
        Err(self.part().cut_off(what))
    }

    pub(super) fn part(&self) -> Part {
        Part::storage(&self.key)
    }

    pub(super) fn missing(&self) -> Problem {
        self.part().cut_off("is not in the file")
    }
}

/// A window on a storage; it has been checked that it lies inside.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    pub(super) storage: usize,
    /// First element, in elements of the storage.
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    /// Elements of the storage from one index of an axis to the next; as many as `shape` has.
    pub(super) strides: Vec<u64>,
    /// Of its elements; the storage may be of plain bytes.
    pub(super) dtype: Dtype,
}

impl Tensor {
    /// Fails unless the tensor lies inside `storage`.
    pub(super) fn check_inside(&self, storage: &Storage) -> Result<(), Problem> {
        let (shape, on, elements) = (&self.shape, storage.part(), storage.elements_of(self.dtype));
        let (Some(_), Some(end)) = (self.elements(), self.end()) else {
            let what = format!("has a tensor of shape {shape:?} on {on} that is beyond all memory");
            return Err(Part::Pickle.too_large(what));
        };
        if end > elements {
            let what = format!("has a tensor of shape {shape:?} that leaves {on}, which has {elements} elements");
            return Err(Part::Pickle.damaged(what));
        }
        Ok(())
    }

    /// Number of elements. None if a product over any of its axes overflows, even if one of them is 0.
    pub(super) fn elements(&self) -> Option<usize> {
        let product = self.shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size.max(1)))?;
        Some(if self.shape.contains(&0) { 0 } else { product })
    }

    /// Elements of the storage from the first to the last one of the tensor; 0 if it has none.
    pub(super) fn span(&self) -> Option<u64> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        self.shape.iter().zip(&self.strides).try_fold(1_u64, |span, (&size, stride)| {
            let steps = u64::try_from(size.saturating_sub(1)).ok()?;
            span.checked_add(steps.checked_mul(*stride)?)
        })
    }

    fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.span()?)
    }

    /// Whether the elements lie back to back in row-major order.
    pub(super) fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&size, &stride)| {
            let fits = size <= 1 || u64::try_from(expected) == Ok(stride);
            // The product of all sizes has been checked.
            expected = usize::saturating_mul(expected, size);
            fits
        })
    }
}
