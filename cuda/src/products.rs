//! Matrix products by cuBLASLt.
//!
//! The library is column-major. A row-major `out = left * right` is its `out^T = right^T * left^T`, in which every matrix
//! is what lies in memory: so `right` is its first factor, `left` its second, and nothing is moved.

use std::{ffi::c_void, mem::MaybeUninit};

use convnext_core::launch::{
    element::Element,
    schedule::{Product, View},
};
use cudarc::{
    cublaslt::{result, sys},
    driver,
};
use thiserror::Error;

/// Bytes of scratch memory that an algorithm may use. What NVIDIA recommends for Hopper; older devices need less.
pub const WORKSPACE: usize = 32 << 20;

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

/// Algorithms of a product that are timed, at most.
const CANDIDATES: usize = 8;

/// How the library multiplies, as it writes it down.
pub(super) type Algorithm = [u64; 8];

/// A product with everything that the library wants to know about it.
pub(super) struct Prepared {
    request: Request,
    described: Described,
    pub(super) algorithm: Algorithm,
    pointers: Pointers,
    accumulate: bool,
    pub(super) bias: Bias,
}

/// What happens to a product's bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bias {
    /// There is none.
    None,
    /// The library adds it.
    Added,
    /// The library has no algorithm that adds it, so it is still to be added.
    Left,
}

/// A product in the library's words.
struct Described {
    description: Description,
    right: Layout,
    left: Layout,
    out: Layout,
}

/// A column-major matrix, without what lies in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Matrix {
    element: Element,
    rows: u64,
    columns: u64,
    /// Values from the start of a column to the start of the next.
    leading: i64,
}

/// A product as the library computes it, column-major: `out = op(right) op(left)`, where `op` transposes or does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Request {
    right: Matrix,
    right_transposed: bool,
    left: Matrix,
    left_transposed: bool,
    out: Matrix,
}

impl Matrix {
    /// What a row-major matrix of `rows` rows of `columns` values is.
    fn of_rows(element: Element, rows: usize, columns: usize) -> Self {
        Self { element, rows: columns as u64, columns: rows as u64, leading: columns as i64 }
    }
}

impl Request {
    fn new(product: &Product) -> Self {
        let Product { left, left_transposed, right, right_transposed, out, rows, inner, columns, .. } = *product;
        let matrix = |view: View, transposed: bool, rows, columns| {
            let (rows, columns) = if transposed { (columns, rows) } else { (rows, columns) };
            Matrix::of_rows(view.element, rows, columns)
        };
        Self {
            right: matrix(right, right_transposed, inner, columns),
            right_transposed,
            left: matrix(left, left_transposed, rows, inner),
            left_transposed,
            out: matrix(out, false, rows, columns),
        }
    }
}

/// Where the matrices lie.
#[derive(Debug, Clone, Copy)]
struct Pointers {
    right: u64,
    left: u64,
    /// What it is added to, if it is.
    add: u64,
    out: u64,
}

/// A description of a product; destroyed when dropped.
struct Description(sys::cublasLtMatmulDesc_t);

/// A description of a matrix; destroyed when dropped.
struct Layout(sys::cublasLtMatrixLayout_t);

/// A description of what is asked of an algorithm; destroyed when dropped.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: created by `Description::new`, destroyed here only. A failure leaks it.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: created by `Layout::new`, destroyed here only. A failure leaks it.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

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
    fn new(Matrix { element, rows, columns, leading }: Matrix) -> Result<Self, result::CublasError> {
        Ok(Self(result::create_matrix_layout(data_type(element), rows, columns, leading)?))
    }
}

impl Described {
    /// With the address of the bias, if one is added.
    fn new(request: &Request, bias: Option<u64>, tf32: bool) -> Result<Self, result::CublasError> {
        Ok(Self {
            description: Description::new(request, bias, tf32)?,
            right: Layout::new(request.right)?,
            left: Layout::new(request.left)?,
            out: Layout::new(request.out)?,
        })
    }
}

impl Description {
    fn new(request: &Request, bias: Option<u64>, tf32: bool) -> Result<Self, result::CublasError> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let compute = if tf32 && request.left.element == Element::F32 {
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32
        } else {
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F
        };
        let this = Self(result::create_matmul_desc(compute, sys::cudaDataType::CUDA_R_32F)?);
        // The library's numbers for "as it is" and "transposed".
        let (first, second) = (i32::from(request.right_transposed), i32::from(request.left_transposed));
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

impl Preference {
    fn new(pointers: &Pointers) -> Result<Self, result::CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let this = Self(result::create_matmul_pref()?);
        this.set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE)?;
        for (attribute, pointer) in [
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, pointers.right),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, pointers.left),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, pointers.add),
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

    /// Chooses an algorithm for a product whose views lie where `address` says, if need be without its bias. None of its
    /// sizes is 0.
    pub(super) fn prepare(&self, product: &Product, address: impl Fn(&View) -> u64) -> Result<Prepared, ProductError> {
        let failed = |what: &'static str| {
            move |error: result::CublasError| ProductError {
                what,
                error: format!("{:?}", error.0),
                product: format!("{product:?}"),
            }
        };
        let [right, left, out] = [&product.right, &product.left, &product.out].map(&address);
        let pointers = Pointers { right, left, add: product.add.as_ref().map_or(out, &address), out };
        let preference = Preference::new(&pointers).map_err(failed("describe a product"))?;
        let request = Request::new(product);
        let with_bias = |bias: Option<u64>| {
            let described = Described::new(&request, bias, self.tf32).map_err(failed("describe a product"))?;
            let algorithm = self.algorithm(&described, &preference).map_err(failed("find an algorithm"))?;
            let bias = match (product.bias, bias) {
                (None, _) => Bias::None,
                (Some(_), Some(_)) => Bias::Added,
                (Some(_), None) => Bias::Left,
            };
            Ok(Prepared { request, described, algorithm, pointers, accumulate: product.accumulate, bias })
        };
        let bias = product.bias.as_ref().map(&address);
        // Where a size is 1 the library may know products, and none that add a bias.
        with_bias(bias).or_else(|refused| if bias.is_some() { with_bias(None) } else { Err(refused) })
    }

    /// The library's first choice.
    fn algorithm(&self, described: &Described, preference: &Preference) -> Result<Algorithm, result::CublasError> {
        let Described { description, right, left, out } = described;
        // SAFETY: handle, descriptions and preference are alive, and describe matrices as long as their views: the
        // schedule checked the lengths.
        let found = unsafe {
            result::get_matmul_algo_heuristic(self.handle, description.0, right.0, left.0, out.0, out.0, preference.0)
        };
        Ok(found?.algo.data)
    }

    /// The library's first choices, the best first as it guesses.
    pub(super) fn candidates(&self, prepared: &Prepared) -> Result<Vec<Algorithm>, result::CublasError> {
        let Described { description, right, left, out } = &prepared.described;
        let preference = Preference::new(&prepared.pointers)?;
        let mut found = [MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::uninit(); CANDIDATES];
        let mut count = 0;
        // SAFETY: as above; the library writes as many results as it says, at most as many as are asked for and there is
        // room for.
        unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                description.0,
                right.0,
                left.0,
                out.0,
                out.0,
                preference.0,
                CANDIDATES as i32,
                found.as_mut_ptr().cast(),
                &mut count,
            )
            .result()?;
            let count = (count.max(0) as usize).min(CANDIDATES);
            let written = found[..count].iter().map(|result| result.assume_init());
            let usable = written.filter(|result| result.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS);
            Ok(usable.map(|result| result.algo.data).collect())
        }
    }

    /// What makes one algorithm faster than another, but for the device: the library, sizes, types, alignments.
    pub(super) fn key(&self, prepared: &Prepared) -> String {
        // SAFETY: takes nothing and gives a number.
        let version = unsafe { sys::cublasLtGetVersion() };
        let Prepared { request, pointers: Pointers { right, left, add, out }, accumulate, bias, .. } = prepared;
        let alignments = [right, left, add, out].map(|address| alignment(*address));
        let tf32 = self.tf32;
        format!("{version} {request:?} {alignments:?} {accumulate} {bias:?} {tf32}")
    }

    /// Puts a product onto a stream.
    pub(super) fn run(&self, prepared: &Prepared, stream: driver::sys::CUstream) -> Result<(), result::CublasError> {
        let (one, beta) = (1.0f32, if prepared.accumulate { 1.0f32 } else { 0.0 });
        let [alpha, beta]: [*const f32; 2] = [&one, &beta];
        let Pointers { right, left, add, out } = prepared.pointers;
        let described = &prepared.described;
        // SAFETY: the addresses are those of the executor's memory, which outlives what it has prepared; the descriptions
        // are alive and of matrices that lie inside; alpha and beta are floats on the host, as the scale type says, read
        // before the call returns; the workspace is ours, of the size given to the heuristic, and one stream uses it.
        unsafe {
            result::matmul(
                self.handle,
                described.description.0,
                alpha.cast(),
                beta.cast(),
                right as *const c_void,
                described.right.0,
                left as *const c_void,
                described.left.0,
                add as *const c_void,
                described.out.0,
                out as *mut c_void,
                described.out.0,
                &sys::cublasLtMatmulAlgo_t { data: prepared.algorithm },
                self.workspace as *mut c_void,
                WORKSPACE,
                stream.cast(),
            )
        }
    }
}

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
    use convnext_core::launch::schedule::{Lifetime, Schedule, Step};

    #[test]
    fn alignments_are_powers_of_two() {
        assert_eq!([0, 1, 2, 48, 128, 768, 1 << 40].map(alignment), [256, 1, 2, 16, 128, 256, 256]);
    }

    const ROWS: usize = 3;
    const INNER: usize = 5;
    const COLUMNS: usize = 7;

    /// Every kind of product there is: both factors as they are, or one of them transposed.
    fn products() -> Vec<Product> {
        let mut schedule = Schedule::new();
        let mut buffer = |element, length| schedule.buffer("matrix", element, length, Lifetime::Persistent);
        let [left, right] = [ROWS * INNER, INNER * COLUMNS].map(|length| buffer(Element::Bf16, length));
        let (out, sum) = (buffer(Element::Bf16, ROWS * COLUMNS), buffer(Element::F32, ROWS * COLUMNS));
        let (bias, add) = (buffer(Element::Bf16, COLUMNS), buffer(Element::Bf16, ROWS * COLUMNS));
        schedule.multiply(ROWS, left, right, None, out);
        schedule.multiply(ROWS, left, right, Some(bias), out);
        schedule.multiply_and_add(ROWS, (left, right), bias, add, out);
        schedule.multiply_transposed(ROWS, left, right, out);
        schedule.weight_gradient(INNER, left, right, sum, true);
        let product = |step: &Step| match step {
            Step::Product(product) => *product,
            _ => unreachable!("only products"),
        };
        schedule.steps().iter().map(product).collect()
    }

    /// `op(matrix)` at a row and a column, as the library's documentation says where it lies.
    fn at(matrix: Matrix, transposed: bool, values: &[f64], row: u64, column: u64) -> f64 {
        let (row, column) = if transposed { (column, row) } else { (row, column) };
        assert!(row < matrix.rows && column < matrix.columns && matrix.leading >= matrix.rows as i64);
        values[row as usize + column as usize * matrix.leading as usize]
    }

    #[test]
    fn what_the_library_is_asked_for_is_the_row_major_product() {
        let left: Vec<f64> = (0..ROWS * INNER).map(|at| (at * at % 11) as f64).collect();
        let right: Vec<f64> = (0..INNER * COLUMNS).map(|at| (at * at % 13) as f64).collect();
        for product in products() {
            let request = Request::new(&product);
            let Request { right: a, left: b, out: d, .. } = request;
            let mut found = [f64::NAN; ROWS * COLUMNS];
            for (row, column) in (0..d.rows).flat_map(|row| (0..d.columns).map(move |column| (row, column))) {
                let inner = if request.right_transposed { a.rows } else { a.columns };
                found[row as usize + column as usize * d.leading as usize] = (0..inner)
                    .map(|k| {
                        at(a, request.right_transposed, &right, row, k)
                            * at(b, request.left_transposed, &left, k, column)
                    })
                    .sum();
            }
            for (row, column) in (0..ROWS).flat_map(|row| (0..COLUMNS).map(move |column| (row, column))) {
                let expected: f64 = (0..INNER)
                    .map(|k| {
                        let l = if product.left_transposed { k * ROWS + row } else { row * INNER + k };
                        let r = if product.right_transposed { column * INNER + k } else { k * COLUMNS + column };
                        left[l] * right[r]
                    })
                    .sum();
                assert_eq!(found[row * COLUMNS + column], expected, "{product:?}");
            }
        }
    }

    /// What the library remembers of a matrix, and of a product.
    fn recalled(described: &Described) -> ([u64; 3], [i32; 3]) {
        use sys::{cublasLtMatmulDescAttributes_t as Of, cublasLtMatrixLayoutAttribute_t as In};
        let mut written = 0;
        let sizes = [In::CUBLASLT_MATRIX_LAYOUT_ROWS, In::CUBLASLT_MATRIX_LAYOUT_COLS, In::CUBLASLT_MATRIX_LAYOUT_LD];
        let sizes = sizes.map(|attribute| {
            let mut value = 0u64;
            let to = (&raw mut value).cast();
            // SAFETY: the description is alive, and the value as long as the attribute: eight bytes.
            let got = unsafe {
                sys::cublasLtMatrixLayoutGetAttribute(described.right.0, attribute, to, 8, &mut written).result()
            };
            got.map(|()| value).unwrap()
        });
        let kinds =
            [Of::CUBLASLT_MATMUL_DESC_TRANSA, Of::CUBLASLT_MATMUL_DESC_TRANSB, Of::CUBLASLT_MATMUL_DESC_EPILOGUE];
        let kinds = kinds.map(|attribute| {
            let mut value = 0i32;
            let to = (&raw mut value).cast();
            // SAFETY: the description is alive, and the value as long as the attribute: four bytes.
            let got = unsafe {
                sys::cublasLtMatmulDescGetAttribute(described.description.0, attribute, to, 4, &mut written).result()
            };
            got.map(|()| value).unwrap()
        });
        (sizes, kinds)
    }

    /// The library takes every description: attributes have the sizes that it wants, which it checks without a device.
    #[test]
    #[ignore = "needs cuBLASLt: see docs/gpu.md"]
    fn the_library_takes_what_it_is_told() {
        for product in products() {
            let request = Request::new(&product);
            for tf32 in [false, true] {
                let described = Described::new(&request, product.bias.map(|_| 1 << 20), tf32).unwrap();
                let Matrix { rows, columns, leading, .. } = request.right;
                let epilogue = if product.bias.is_some() { 4 } else { 1 };
                let transposed = [request.right_transposed, request.left_transposed].map(i32::from);
                let kinds = [transposed[0], transposed[1], epilogue];
                assert_eq!(recalled(&described), ([rows, columns, leading as u64], kinds), "{product:?}");
            }
            Preference::new(&Pointers { right: 256, left: 512, add: 16, out: 16 }).unwrap();
        }
    }
}
