//! A step as data: buffers, and what is done with them in which order.

use thiserror::Error;

use super::{element::Element, kernel::Module};

/// How long a buffer's contents must last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lifetime {
    /// From step to step: parameters, optimiser state, inputs, results. Has memory of its own.
    Persistent,
    /// From its first write to its last read in the schedule; shares memory with others.
    Temporary,
}

/// A buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// What it holds, for messages.
    pub name: String,
    /// Type of its values.
    pub element: Element,
    /// Number of values.
    pub length: usize,
    /// How long it must last.
    pub lifetime: Lifetime,
    /// Whether it is filled anew before every run. All of these lie side by side, so that one copy fills them.
    pub input: bool,
}

impl Buffer {
    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.length * self.element.bytes()
    }
}

/// Part of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct View {
    /// Index of the buffer in the schedule.
    pub buffer: usize,
    /// Type of the values.
    pub element: Element,
    /// First value.
    pub offset: usize,
    /// Number of values.
    pub length: usize,
}

impl View {
    /// `length` values from `offset` on.
    ///
    /// # Panics
    /// If they do not lie inside.
    #[must_use]
    pub fn part(self, offset: usize, length: usize) -> Self {
        assert!(
            offset + length <= self.length,
            "a part from {offset} to {} of {} values",
            offset + length,
            self.length
        );
        Self { offset: self.offset + offset, length, ..self }
    }
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Argument {
    /// Values that are read.
    Read(View),
    /// Values that are all written, and not read before.
    Write(View),
    /// Values that are read and written, or of which some may stay as they are.
    Update(View),
    /// A null pointer: a table that this geometry does not need.
    Null,
    /// An integer.
    Int(i32),
    /// A float.
    Float(f32),
}

/// A kernel launch.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// The file and its constants.
    pub module: Module,
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block, in x.
    pub threads: u32,
    /// Arguments in order.
    pub arguments: Vec<Argument>,
}

/// A matrix product of row-major matrices: `out (+)= left * right (+ bias) (+ add)`, sums in f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Product {
    /// `[rows, inner]`, or `[inner, rows]` if transposed.
    pub left: View,
    /// Whether `left` is read transposed.
    pub left_transposed: bool,
    /// `[inner, columns]`, or `[columns, inner]` if transposed.
    pub right: View,
    /// Whether `right` is read transposed.
    pub right_transposed: bool,
    /// `[rows, columns]`.
    pub out: View,
    /// Rows of the result.
    pub rows: usize,
    /// Length of the sums.
    pub inner: usize,
    /// Columns of the result.
    pub columns: usize,
    /// Added to every row, `[columns]`, in the type of `out`.
    pub bias: Option<View>,
    /// Whether the product is added to what `out` holds, or to `add`.
    pub accumulate: bool,
    /// What it is added to in the place of `out`: a matrix like it.
    pub add: Option<View>,
}

impl Product {
    /// Whether one of its sizes is 0.
    pub fn is_empty(&self) -> bool {
        self.rows * self.inner * self.columns == 0
    }

    /// Multiply-adds.
    pub fn multiply_adds(&self) -> u64 {
        self.rows as u64 * self.inner as u64 * self.columns as u64
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Run a kernel.
    Launch(Launch),
    /// Multiply matrices.
    Product(Product),
    /// Set values to zero.
    Zero(View),
}

/// What a step does to a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads it.
    Read,
    /// Writes all of it.
    Write,
    /// Reads it, and writes some or all of it.
    Update,
}

impl Step {
    /// Every view it touches, and how.
    pub fn accesses(&self) -> Vec<(View, Access)> {
        match self {
            Self::Launch(launch) => launch.arguments.iter().filter_map(access).collect(),
            Self::Product(product) => {
                let out = if product.accumulate && product.add.is_none() { Access::Update } else { Access::Write };
                let reads = [Some(product.left), Some(product.right), product.bias, product.add].into_iter().flatten();
                reads.map(|view| (view, Access::Read)).chain([(product.out, out)]).collect()
            }
            Self::Zero(view) => vec![(*view, Access::Write)],
        }
    }
}

fn access(argument: &Argument) -> Option<(View, Access)> {
    match *argument {
        Argument::Read(view) => Some((view, Access::Read)),
        Argument::Write(view) => Some((view, Access::Write)),
        Argument::Update(view) => Some((view, Access::Update)),
        Argument::Null | Argument::Int(_) | Argument::Float(_) => None,
    }
}

/// Why a step cannot be scheduled.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// A number does not fit into what a kernel counts with.
    #[error("{what}: {value} is more than the {limit} that a kernel can count; use a smaller batch")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        value: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A grid of squares of two by two cells needs even sides.
    #[error("a grid, or a patch, of {height} x {width} cells cannot be halved")]
    Odd {
        /// Cells from top to bottom.
        height: usize,
        /// Cells from left to right.
        width: usize,
    },
    /// Activations can be f32 or bf16 only.
    #[error("activations are f32 or bf16, not {0:?}: sums of squares over a large grid overflow anything narrower")]
    Real(Element),
    /// The network does not have what is asked of it, or was not given what it needs.
    #[error("the network has no {0}, and needs one")]
    Missing(&'static str),
}

/// The most rows, runs or parameters that one launch may have: half of what an `int` holds, so that a stride past the
/// end does not overflow.
pub const MOST: usize = 1 << 30;

/// Checks a count against [`MOST`].
pub(crate) fn count(what: &'static str, value: usize) -> Result<i32, ScheduleError> {
    if value <= MOST { Ok(value as i32) } else { Err(ScheduleError::TooLarge { what, value, limit: MOST }) }
}

/// Buffers, and steps in order.
#[derive(Debug, Clone, Default)]
pub struct Schedule {
    buffers: Vec<Buffer>,
    steps: Vec<Step>,
}

impl Schedule {
    /// Nothing to do.
    pub fn new() -> Self {
        Self::default()
    }

    /// The buffers; a view's `buffer` is an index into them.
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// A new buffer.
    pub fn buffer(&mut self, name: impl Into<String>, element: Element, length: usize, lifetime: Lifetime) -> View {
        self.buffers.push(Buffer { name: name.into(), element, length, lifetime, input: false });
        View { buffer: self.buffers.len() - 1, element, offset: 0, length }
    }

    /// A new buffer that lasts as long as the schedule needs it.
    pub fn temporary(&mut self, name: &str, element: Element, length: usize) -> View {
        self.buffer(name, element, length, Lifetime::Temporary)
    }

    /// A new buffer that is filled anew before every run.
    pub fn input(&mut self, name: &str, element: Element, length: usize) -> View {
        let view = self.buffer(name, element, length, Lifetime::Persistent);
        self.buffers[view.buffer].input = true;
        view
    }

    /// Makes the buffer of a view last beyond the schedule: a result.
    pub fn keep(&mut self, view: View) {
        self.buffers[view.buffer].lifetime = Lifetime::Persistent;
    }

    /// Adds a step.
    pub fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Adds a launch, unless its grid is empty.
    ///
    /// # Errors
    /// [`ScheduleError::TooLarge`] if the grid is larger than a device's.
    pub fn launch(
        &mut self,
        module: &Module,
        kernel: &'static str,
        grid: [usize; 3],
        threads: usize,
        arguments: impl Into<Vec<Argument>>,
    ) -> Result<(), ScheduleError> {
        let grid = check_grid(grid)?;
        debug_assert!(threads.is_multiple_of(32) && (32..=1024).contains(&threads), "a block of {threads} threads");
        if grid.contains(&0) {
            return Ok(());
        }
        let (module, threads, arguments) = (module.clone(), threads as u32, arguments.into());
        self.push(Step::Launch(Launch { module, kernel, grid, threads, arguments }));
        Ok(())
    }

    /// Adds `out [rows, columns] = left [rows, inner] * right [inner, columns] (+ bias)`.
    pub fn multiply(&mut self, rows: usize, left: View, right: View, bias: Option<View>, out: View) {
        let (inner, columns) = (left.length / rows.max(1), out.length / rows.max(1));
        let sizes = Sizes { rows, inner, columns };
        self.product(sizes, (left, false), (right, false), out, bias, false);
    }

    /// Adds `out [rows, columns] = add + left [rows, inner] * right [inner, columns] + bias`; `add` is like `out`, and not
    /// the same.
    pub fn multiply_and_add(&mut self, rows: usize, (left, right): (View, View), bias: View, add: View, out: View) {
        self.multiply(rows, left, right, Some(bias), out);
        assert_eq!((add.length, add.element), (out.length, out.element), "what a product is added to");
        if let Some(Step::Product(product)) = self.steps.last_mut() {
            (product.accumulate, product.add) = (true, Some(add));
        }
    }

    /// Adds `out [rows, columns] = left [rows, inner] * right^T`, `right [columns, inner]`: the gradient of an input.
    pub fn multiply_transposed(&mut self, rows: usize, left: View, right: View, out: View) {
        let (inner, columns) = (left.length / rows.max(1), out.length / rows.max(1));
        self.product(Sizes { rows, inner, columns }, (left, false), (right, true), out, None, false);
    }

    /// Adds `out [inputs, outputs] (+)= x^T * grad` over `rows` rows: the gradient of a weight.
    pub fn weight_gradient(&mut self, rows: usize, x: View, grad: View, out: View, accumulate: bool) {
        let (inputs, outputs) = (x.length / rows.max(1), grad.length / rows.max(1));
        let sizes = Sizes { rows: inputs, inner: rows, columns: outputs };
        self.product(sizes, (x, true), (grad, false), out, None, accumulate);
    }

    fn product(
        &mut self,
        Sizes { rows, inner, columns }: Sizes,
        (left, left_transposed): (View, bool),
        (right, right_transposed): (View, bool),
        out: View,
        bias: Option<View>,
        accumulate: bool,
    ) {
        assert_eq!((left.length, right.length), (rows * inner, inner * columns), "lengths of the factors");
        assert_eq!(out.length, rows * columns, "length of the product");
        assert!(bias.is_none_or(|bias| bias.length == columns), "length of the bias");
        self.push(Step::Product(Product {
            left,
            left_transposed,
            right,
            right_transposed,
            out,
            rows,
            inner,
            columns,
            bias,
            accumulate,
            add: None,
        }));
    }
}

struct Sizes {
    rows: usize,
    inner: usize,
    columns: usize,
}

/// A grid within a device's limits: 2^31 - 1 blocks in x, 65535 in y and z.
fn check_grid(grid: [usize; 3]) -> Result<[u32; 3], ScheduleError> {
    const LIMITS: [usize; 3] = [i32::MAX as usize, 65535, 65535];
    let mut checked = [0; 3];
    for ((checked, value), limit) in checked.iter_mut().zip(grid).zip(LIMITS) {
        if value > limit {
            return Err(ScheduleError::TooLarge { what: "blocks of a grid", value, limit });
        }
        *checked = value as u32;
    }
    Ok(checked)
}

/// A parameter: its value, the copy in the activations' type that products read, and its gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    /// f32.
    pub value: View,
    /// The same in the activations' type; `value` itself if that is f32.
    pub mirror: View,
    /// f32; added to.
    pub gradient: View,
}

impl Default for Parameter {
    /// None: what stands for a parameter that a layer does not have. It is in no schedule.
    fn default() -> Self {
        let none = View { buffer: usize::MAX, element: Element::F32, offset: 0, length: 0 };
        Self { value: none, mirror: none, gradient: none }
    }
}

/// Parameters begin at multiples of this many values, so that vectors of any type can be loaded from them, and
/// libraries take their fastest way. The values in between are padding.
pub const PARAMETER_ALIGNMENT: usize = 64;
