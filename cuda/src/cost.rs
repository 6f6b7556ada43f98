//! What a schedule costs at least on a device: a model, for a measurement to be laid beside.
//!
//! A device moves bytes, multiplies matrices and issues instructions at the same time, so a step takes no less than the
//! longest of the three takes alone, and no less than a launch does. Nothing is fitted: rates are a device's own, bytes
//! and multiply-adds follow from the schedule, instructions from the compiled code. What a step finds in the second
//! cache may beat the model; waiting for memory, for a result or for the last block does not show in it.

use std::{
    collections::{BTreeMap, HashSet},
    ops::AddAssign,
};

use convnext_core::launch::{
    element::Element,
    kernel::Module,
    schedule::{Access, Argument, Launch, Schedule, Step},
};

use crate::executor::Executor;

/// What a device does at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// The device.
    pub name: &'static str,
    /// Bytes a second, those that are read and those that are written.
    pub bandwidth: f64,
    /// Multiply-adds a second of bf16 products.
    pub bf16: f64,
    /// Multiply-adds a second of f32 products.
    pub f32: f64,
    /// Multiply-adds a second of f32 products whose factors may be rounded to 10 bits of mantissa.
    pub tf32: f64,
    /// Instructions a second, each of a whole warp.
    pub issue: f64,
    /// Seconds that a launch takes at least.
    pub launch: f64,
}

/// NVIDIA H200, 132 multiprocessors at 1.98 GHz (what `nvidia-smi` says while it computes).
pub const H200: Rates = Rates {
    name: "NVIDIA H200",
    // Measured: a copy of gigabytes within the device.
    bandwidth: 4.25e12,
    // Measured: a product of 8192 x 8192 x 8192 by cuBLAS, random values.
    bf16: 790e12 / 2.0,
    // 128 lanes a multiprocessor.
    f32: 132.0 * 128.0 * 1.98e9,
    // The data sheet's rate of dense products.
    tf32: 494.7e12 / 2.0,
    // Four schedulers a multiprocessor, an instruction a cycle each.
    issue: 132.0 * 4.0 * 1.98e9,
    // Measured between two events: a kernel of one block that reads a few kilobytes.
    launch: 4e-6,
};

impl Rates {
    /// Where f32 products may round their factors.
    #[must_use]
    pub fn rounding(self) -> Self {
        Self { f32: self.tf32, ..self }
    }
}

/// What a step has to do.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Work {
    /// Bytes of the views that it touches: each once if it is read, and once if it is written.
    pub bytes: u64,
    /// Multiply-adds of its product.
    pub multiply_adds: u64,
    /// Instructions of all its warps; 0 where nobody has counted them.
    pub instructions: u64,
}

impl Work {
    /// Of a step.
    pub fn of(step: &Step) -> Self {
        let (multiply_adds, instructions) = match step {
            Step::Launch(launch) => (0, instructions(launch).unwrap_or(0)),
            Step::Product(product) => (product.multiply_adds(), 0),
            Step::Zero(_) => (0, 0),
        };
        Self { bytes: bytes(step), multiply_adds, instructions }
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.multiply_adds += other.multiply_adds;
        self.instructions += other.instructions;
    }
}

fn bytes(step: &Step) -> u64 {
    let ways = |(view, access)| {
        let [reads, writes] = [access != Access::Write, access != Access::Read];
        [(view, true, reads), (view, false, writes)].into_iter().filter(|(.., there)| *there)
    };
    let each: HashSet<_> = step.accesses().into_iter().flat_map(ways).collect();
    each.into_iter().map(|(view, ..)| (view.length * view.element.bytes()) as u64).sum()
}

/// Instructions that a thread executes for each value of a kernel's first argument, activations in bf16.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Count {
    /// The kernel.
    pub kernel: &'static str,
    /// Cells a side of a visible patch; 0 for a dense grid, `None` where the geometry changes nothing.
    pub side: Option<usize>,
    /// Instructions a value.
    pub instructions: f64,
}

impl Count {
    const fn new(kernel: &'static str, side: Option<usize>, instructions: f64) -> Self {
        Self { kernel, side, instructions }
    }
}

/// What is known, for compute capability 9.0: the main loop's instructions over the values it handles; convolutions are of
/// 7 x 7. `tests/tests/disassembly` holds it to the compiled code.
pub const COUNTS: [Count; 22] = [
    Count::new("grn_statistics", None, 11.4),
    Count::new("hidden_apply", None, 12.3),
    Count::new("grn_backward_statistics", None, 13.9),
    Count::new("hidden_backward", None, 24.7),
    Count::new("residual_forward", None, 7.0),
    Count::new("layer_norm_apply", None, 6.1),
    Count::new("layer_norm_backward", None, 20.4),
    Count::new("depthwise_forward", Some(0), 60.7),
    Count::new("depthwise_forward", Some(8), 105.2),
    Count::new("depthwise_forward", Some(4), 153.1),
    Count::new("depthwise_forward", Some(2), 219.0),
    Count::new("depthwise_forward", Some(1), 385.9),
    Count::new("depthwise_input_gradient", Some(0), 64.2),
    Count::new("depthwise_input_gradient", Some(8), 108.8),
    Count::new("depthwise_input_gradient", Some(4), 156.2),
    Count::new("depthwise_input_gradient", Some(2), 225.5),
    Count::new("depthwise_input_gradient", Some(1), 396.4),
    Count::new("depthwise_weight_gradient", Some(0), 68.9),
    Count::new("depthwise_weight_gradient", Some(8), 98.7),
    Count::new("depthwise_weight_gradient", Some(4), 144.0),
    Count::new("depthwise_weight_gradient", Some(2), 182.6),
    Count::new("depthwise_weight_gradient", Some(1), 223.1),
];

/// Instructions of all warps of a launch.
fn instructions(launch: &Launch) -> Option<u64> {
    let Some(Argument::Read(first) | Argument::Update(first)) = launch.arguments.first() else { return None };
    let (side, kernel) = (side(&launch.module), constant(&launch.module, "KERNEL"));
    if kernel.is_some_and(|kernel| kernel != 7) {
        return None;
    }
    let of = |count: &&Count| count.kernel == launch.kernel && count.side.is_none_or(|known| known == side);
    let count = COUNTS.iter().find(of).filter(|_| first.element == Element::Bf16)?;
    Some((count.instructions * first.length as f64 / 32.0).round() as u64)
}

/// Cells a side of a module's visible patches; 0 for dense grids and where there is no geometry.
pub fn side(module: &Module) -> usize {
    constant(module, "SIDE").unwrap_or(0)
}

/// A constant of a module that is a number.
pub fn constant(module: &Module, name: &str) -> Option<usize> {
    module.constants.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value.parse().ok())
}

/// What a step cannot be faster than.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Bytes over bandwidth.
    Memory,
    /// Multiply-adds over the rate of products.
    Products,
    /// Instructions over the rate at which they are issued.
    Instructions,
    /// The least that a launch takes.
    Launch,
}

impl Bound {
    const ALL: [Self; 4] = [Self::Memory, Self::Products, Self::Instructions, Self::Launch];

    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Products => "products",
            Self::Instructions => "instructions",
            Self::Launch => "launches",
        }
    }
}

/// What steps cost together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Steps.
    pub steps: usize,
    /// What they have to do.
    pub work: Work,
    /// Seconds of those with each bound, in the order of [`Bound::ALL`].
    seconds: [f64; 4],
}

impl Cost {
    /// Of one step.
    pub fn of(step: &Step, rates: &Rates) -> Self {
        let work = Work::of(step);
        let wide = matches!(step, Step::Product(product) if product.left.element == Element::F32);
        let products = if wide { rates.f32 } else { rates.bf16 };
        let alone = [
            work.bytes as f64 / rates.bandwidth,
            work.multiply_adds as f64 / products,
            work.instructions as f64 / rates.issue,
            rates.launch,
        ];
        let mut seconds = [0.0; 4];
        let longest = longest(&alone);
        seconds[longest] = alone[longest];
        Self { steps: 1, work, seconds }
    }

    /// Seconds.
    pub fn seconds(&self) -> f64 {
        self.seconds.iter().sum()
    }

    /// The bound of most of that time.
    pub fn bound(&self) -> Bound {
        Bound::ALL[longest(&self.seconds)]
    }
}

fn longest(seconds: &[f64; 4]) -> usize {
    (0..4).max_by(|&a, &b| seconds[a].total_cmp(&seconds[b])).unwrap_or(0)
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.work += other.work;
        self.seconds.iter_mut().zip(other.seconds).for_each(|(sum, seconds)| *sum += seconds);
    }
}

/// What a step is called in tables: its kernel, `(product)` or `(zero)`.
pub fn name(step: &Step) -> &'static str {
    match step {
        Step::Launch(launch) => launch.kernel,
        Step::Product(_) => "(product)",
        Step::Zero(_) => "(zero)",
    }
}

/// Rows, length of the sums and columns of a product; `None` of any other step.
pub fn sizes(step: &Step) -> Option<[usize; 3]> {
    match step {
        Step::Product(product) => Some([product.rows, product.inner, product.columns]),
        Step::Launch(_) | Step::Zero(_) => None,
    }
}

/// What the steps that are run cost, by whatever `key` tells apart; those without a key are left out.
pub fn by<K: Ord>(schedule: &Schedule, rates: &Rates, key: impl Fn(&Step) -> Option<K>) -> BTreeMap<K, Cost> {
    let mut costs = BTreeMap::<K, Cost>::new();
    for step in Executor::steps(schedule) {
        if let Some(key) = key(step) {
            *costs.entry(key).or_default() += Cost::of(step, rates);
        }
    }
    costs
}

/// What a schedule costs.
pub fn whole(schedule: &Schedule, rates: &Rates) -> Cost {
    by(schedule, rates, |_| Some(())).remove(&()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use convnext_core::launch::schedule::{Lifetime, View};

    const RATES: Rates =
        Rates { name: "", bandwidth: 1e9, bf16: 1e12, f32: 1e11, tf32: 5e11, issue: 1e9, launch: 1e-6 };

    fn view(schedule: &mut Schedule, element: Element, length: usize) -> View {
        schedule.buffer("", element, length, Lifetime::Persistent)
    }

    fn launch(kernel: &'static str, arguments: Vec<Argument>) -> Step {
        let module = Module::new(&convnext_core::ops::block::cuda::HIDDEN_V2, Element::Bf16);
        Step::Launch(Launch { module, kernel, grid: [1; 3], threads: 32, arguments })
    }

    #[test]
    fn a_view_counts_once_a_step_and_way() {
        let mut schedule = Schedule::new();
        let [a, b] = [0; 2].map(|_| view(&mut schedule, Element::F32, 10));
        let bytes = |arguments: &[Argument]| Work::of(&launch("any", arguments.to_vec())).bytes;
        assert_eq!(bytes(&[Argument::Read(a), Argument::Write(b), Argument::Null, Argument::Int(3)]), 80);
        assert_eq!(bytes(&[Argument::Update(a)]), 80);
        assert_eq!(bytes(&[Argument::Read(a), Argument::Read(a)]), 40);
        assert_eq!(bytes(&[Argument::Update(a), Argument::Update(a), Argument::Read(b.part(0, 5))]), 100);
        assert_eq!(Work::of(&Step::Zero(a)).bytes, 40);
    }

    #[test]
    fn the_slowest_is_the_bound() {
        let mut schedule = Schedule::new();
        let cost = |step| Cost::of(&step, &RATES);
        let large = view(&mut schedule, Element::F32, 1000);
        let zero = cost(Step::Zero(large));
        assert_eq!((zero.bound(), zero.seconds()), (Bound::Memory, 4e-6));
        assert_eq!(cost(Step::Zero(large.part(0, 10))).bound(), Bound::Launch);
        let values = view(&mut schedule, Element::Bf16, 32_000);
        let counted = COUNTS[0];
        let issued = cost(launch(counted.kernel, vec![Argument::Read(values)]));
        assert_eq!(issued.bound(), Bound::Memory, "{issued:?}");
        assert_eq!(issued.work.instructions, (1000.0 * counted.instructions).round() as u64);
        let slow = Cost::of(&launch(counted.kernel, vec![Argument::Read(values)]), &Rates { issue: 1e8, ..RATES });
        assert_eq!((slow.bound(), slow.seconds()), (Bound::Instructions, slow.work.instructions as f64 / 1e8));
        // Counts are of bf16.
        assert_eq!(cost(launch(counted.kernel, vec![Argument::Read(large)])).work.instructions, 0);
    }

    #[test]
    fn products_take_as_long_as_their_type_allows() {
        for (element, rate) in [(Element::Bf16, RATES.bf16), (Element::F32, RATES.f32)] {
            let mut schedule = Schedule::new();
            let [a, b, c] = [0; 3].map(|_| view(&mut schedule, element, 1 << 20));
            schedule.multiply(1 << 10, a, b, None, c);
            let cost = whole(&schedule, &Rates { bandwidth: 1e15, ..RATES });
            assert_eq!((cost.steps, cost.bound()), (1, Bound::Products));
            assert_eq!((cost.work.multiply_adds, cost.seconds()), (1 << 30, f64::from(1 << 30) / rate));
        }
        assert_eq!(RATES.rounding().f32, RATES.tf32);
    }

    #[test]
    fn costs_add_up_by_kernel() {
        let mut schedule = Schedule::new();
        let a = view(&mut schedule, Element::F32, 1 << 20);
        let empty = a.part(0, 0);
        schedule.push(Step::Zero(a));
        schedule.push(launch("one", vec![Argument::Read(a)]));
        schedule.push(launch("one", vec![Argument::Update(a)]));
        schedule.multiply(0, empty, empty, None, empty);
        let costs = by(&schedule, &RATES, |step| Some(name(step)));
        let rows: Vec<_> = costs.iter().map(|(name, cost)| (*name, cost.steps, cost.work.bytes >> 22)).collect();
        assert_eq!(rows, [("(zero)", 1, 1), ("one", 2, 3)]);
        let sum: f64 = costs.values().map(Cost::seconds).sum();
        assert!((whole(&schedule, &RATES).seconds() - sum).abs() < 1e-12);
        assert!(by(&schedule, &RATES, sizes).is_empty());
    }
}
