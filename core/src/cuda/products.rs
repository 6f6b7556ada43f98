//! Matrix products by cuBLASLt.
//!
//! The library is column-major. A row-major `out = left * right` is its `out^T = right^T * left^T`, in which every matrix
//! is what lies in memory: so `right` is its first factor, `left` its second, and nothing is moved.

use std::ffi::c_void;

use cudarc::{
    cublaslt::{result, sys},
    driver,
};
use thiserror::Error;

use super::schedule::{Element, Product, View};

/// Bytes of scratch memory that an algorithm may use. What NVIDIA recommends for Hopper; older devices need less.
const WORKSPACE: usize = 32 << 20;

/// Alignments beyond this make no difference.
const LARGEST_ALIGNMENT: u64 = 256;

/// Why a product cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cuBLASLt cannot {what}: {error}; the product is {product}")]
pub struct ProductError {
    /// What was tried.
    pub what: &'static str,
    /// What the library calls it.
    pub error: String,
    /// Sizes and types of the product.
    pub product: String,
}

/// The library and its scratch memory.
pub(super) struct Products {
    handle: sys::cublasLtHandle_t,
    workspace: driver::sys::CUdeviceptr,
    /// Whether f32 products may round their factors to TF32.
    tf32: bool,
}

/// A product with everything that the library wants to know about it.
pub(super) struct Prepared {
    description: Description,
    right: Layout,
    left: Layout,
    out: Layout,
    algorithm: sys::cublasLtMatmulAlgo_t,
    pointers: Pointers,
    accumulate: bool,
}

/// Where the matrices lie.
#[derive(Debug, Clone, Copy)]
struct Pointers {
    right: u64,
    left: u64,
    out: u64,
}

/// A description of a product; destroyed when dropped.
struct Description(sys::cublasLtMatmulDesc_t);

/// A description of a matrix; destroyed when dropped.
struct Layout(sys::cublasLtMatrixLayout_t);

/// A description of what is asked of an algorithm; destroyed when dropped.
struct Preference(sys::cublasLtMatmulPreference_t);

#[allow(unsafe_code)]
impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: created by `Description::new`, destroyed here only. A failure leaks it.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

#[allow(unsafe_code)]
impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: created by `Layout::new`, destroyed here only. A failure leaks it.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

#[allow(unsafe_code)]
impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: created by `Preference::new`, destroyed here only. A failure leaks it.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

fn data_type(element: Element) -> sys::cudaDataType {
    match element {
        Element::Bf16 => sys::cudaDataType::CUDA_R_16BF,
        _ => sys::cudaDataType::CUDA_R_32F,
    }
}

impl Layout {
    /// A row-major matrix of `rows` rows of `columns` values.
    fn new(view: &View, rows: usize, columns: usize) -> Result<Self, result::CublasError> {
        let (rows, columns) = (rows as u64, columns as u64);
        Ok(Self(result::create_matrix_layout(data_type(view.element), columns, rows, columns as i64)?))
    }
}

#[allow(unsafe_code)]
impl Description {
    fn new(product: &Product, bias: Option<u64>, tf32: bool) -> Result<Self, result::CublasError> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let compute = if tf32 {
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32
        } else {
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F
        };
        let this = Self(result::create_matmul_desc(compute, sys::cudaDataType::CUDA_R_32F)?);
        // The library's numbers for "as it is" and "transposed".
        let (first, second) = (i32::from(product.right_transposed), i32::from(product.left_transposed));
        this.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &first)?;
        this.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &second)?;
        if let Some(bias) = bias {
            this.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS)?;
            this.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        Ok(this)
    }

    fn set<T: Copy>(
        &self,
        attribute: sys::cublasLtMatmulDescAttributes_t,
        value: &T,
    ) -> Result<(), result::CublasError> {
        let from: *const T = value;
        // SAFETY: the description is alive; the library copies as many bytes as we say, which are those of a live value
        // of the attribute's type: i32 for transpositions, a C enum for the epilogue, a device address for the bias.
        unsafe { result::set_matmul_desc_attribute(self.0, attribute, from.cast::<c_void>(), size_of::<T>()) }
    }
}

#[allow(unsafe_code)]
impl Preference {
    fn new(pointers: &Pointers) -> Result<Self, result::CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let this = Self(result::create_matmul_pref()?);
        this.set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE)?;
        for (attribute, pointer) in [
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, pointers.right),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, pointers.left),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, pointers.out),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, pointers.out),
        ] {
            this.set(attribute, &alignment(pointer))?;
        }
        Ok(this)
    }

    fn set<T: Copy>(
        &self,
        attribute: sys::cublasLtMatmulPreferenceAttributes_t,
        value: &T,
    ) -> Result<(), result::CublasError> {
        let from: *const T = value;
        // SAFETY: the preference is alive; the library copies as many bytes as we say, which are those of a live value of
        // the attribute's type: u64 for the workspace (usize here, on 64 bits), u32 for alignments.
        unsafe { result::set_matmul_pref_attribute(self.0, attribute, from.cast::<c_void>(), size_of::<T>()) }
    }
}

/// The largest power of two, up to 256, that divides an address.
fn alignment(address: u64) -> u32 {
    let lowest = address & address.wrapping_neg();
    if address == 0 { LARGEST_ALIGNMENT as u32 } else { lowest.min(LARGEST_ALIGNMENT) as u32 }
}

#[allow(unsafe_code)]
impl Products {
    /// The library, for the context that is current.
    pub(super) fn new(tf32: bool) -> Result<Self, ProductError> {
        let failed = |error: String| ProductError { what: "start", error, product: "any".into() };
        let handle = result::create_handle().map_err(|error| failed(format!("{:?}", error.0)))?;
        // SAFETY: a context is current; the memory is freed in `drop` and nowhere else.
        let workspace = unsafe { driver::result::malloc_sync(WORKSPACE) };
        match workspace {
            Ok(workspace) => Ok(Self { handle, workspace, tf32 }),
            Err(error) => {
                // SAFETY: nothing else has the handle.
                let _ = unsafe { result::destroy_handle(handle) };
                Err(failed(format!("{:?}", error.0)))
            }
        }
    }

    /// Chooses an algorithm for a product whose views lie where `address` says. None of its sizes is 0.
    pub(super) fn prepare(&self, product: &Product, address: impl Fn(&View) -> u64) -> Result<Prepared, ProductError> {
        let failed = |what: &'static str| {
            move |error: result::CublasError| ProductError {
                what,
                error: format!("{:?}", error.0),
                product: format!("{product:?}"),
            }
        };
        let Product { rows, inner, columns, .. } = *product;
        let pointers =
            Pointers { right: address(&product.right), left: address(&product.left), out: address(&product.out) };
        let side = |transposed: bool, high, wide| if transposed { (wide, high) } else { (high, wide) };
        let (right_rows, right_columns) = side(product.right_transposed, inner, columns);
        let (left_rows, left_columns) = side(product.left_transposed, rows, inner);
        let tf32 = self.tf32 && product.left.element == Element::F32;
        let describe = failed("describe a product");
        let description = Description::new(product, product.bias.as_ref().map(&address), tf32).map_err(&describe)?;
        let right = Layout::new(&product.right, right_rows, right_columns).map_err(&describe)?;
        let left = Layout::new(&product.left, left_rows, left_columns).map_err(&describe)?;
        let out = Layout::new(&product.out, rows, columns).map_err(&describe)?;
        let preference = Preference::new(&pointers).map_err(&describe)?;
        // SAFETY: handle, descriptions and preference are alive, and describe matrices as long as their views: the
        // schedule checked the lengths.
        let found = unsafe {
            result::get_matmul_algo_heuristic(self.handle, description.0, right.0, left.0, out.0, out.0, preference.0)
        };
        let algorithm = found.map_err(failed("find an algorithm"))?.algo;
        Ok(Prepared { description, right, left, out, algorithm, pointers, accumulate: product.accumulate })
    }

    /// Puts a product onto a stream.
    pub(super) fn run(&self, prepared: &Prepared, stream: driver::sys::CUstream) -> Result<(), result::CublasError> {
        let (one, beta) = (1.0f32, if prepared.accumulate { 1.0f32 } else { 0.0 });
        let [alpha, beta]: [*const f32; 2] = [&one, &beta];
        let Pointers { right, left, out } = prepared.pointers;
        // SAFETY: the addresses are those of the executor's memory, which outlives what it has prepared; the descriptions
        // are alive and of matrices that lie inside; alpha and beta are floats on the host, as the scale type says, read
        // before the call returns; the workspace is ours, of the size given to the heuristic, and one stream uses it.
        unsafe {
            result::matmul(
                self.handle,
                prepared.description.0,
                alpha.cast(),
                beta.cast(),
                right as *const c_void,
                prepared.right.0,
                left as *const c_void,
                prepared.left.0,
                out as *const c_void,
                prepared.out.0,
                out as *mut c_void,
                prepared.out.0,
                &prepared.algorithm,
                self.workspace as *mut c_void,
                WORKSPACE,
                stream.cast(),
            )
        }
    }
}

#[allow(unsafe_code)]
impl Drop for Products {
    fn drop(&mut self) {
        // SAFETY: nothing uses handle and workspace after this; the executor has waited for its stream.
        unsafe {
            let _ = driver::result::free_sync(self.workspace);
            let _ = result::destroy_handle(self.handle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignments_are_powers_of_two() {
        assert_eq!([0, 1, 2, 48, 128, 768, 1 << 40].map(alignment), [256, 1, 2, 16, 128, 256, 256]);
    }
}
