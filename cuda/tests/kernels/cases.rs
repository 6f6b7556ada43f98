//! One row per operation and odd size. To test a new operation, implement [`Operation`] and add rows.

use std::collections::BTreeMap;

use convnext_core::{
    cells::Cells,
    launch::{
        element::Element,
        geometry::{Geometry, TableValues, Tables},
        schedule::{Lifetime, Parameter, Schedule, View},
    },
    ops::{
        block::{self, Flavour},
        cross_entropy, densify, downsample, head, masked_mse, stem,
    },
    visibility::Visibility,
};
use half::bf16;

use crate::{
    host::Memory,
    operations::{Grid, random, visibility},
};

/// Tensors by name.
pub(crate) type Tensors = BTreeMap<String, Vec<f64>>;

/// Values that bf16 represents exactly, so that every version sees the same.
fn exact(seed: u64, length: usize) -> Vec<f64> {
    random(seed, length).into_iter().map(|value| bf16::from_f64(value).to_f64()).collect()
}

/// An operation with its sizes: as plain loops, and as a schedule.
pub(crate) trait Operation {
    /// What it is, for messages.
    fn name(&self) -> String;

    /// Number of its parameters.
    fn parameters(&self) -> usize;

    /// What it should compute; gradients of parameters under `gradients`, in the order of the flat buffer.
    fn reference(&self, bench: &mut Bench) -> Tensors;

    /// What it computes.
    fn schedule(&self, bench: &mut Bench) -> Vec<(&'static str, View)>;
}

/// A schedule with the values that its buffers start with.
pub(crate) struct Bench {
    pub(crate) schedule: Schedule,
    pub(crate) real: Element,
    /// Parameters, and what is in the buffers of their gradients before.
    pub(crate) weights: Vec<f64>,
    pub(crate) gradients_before: Vec<f64>,
    values: Vec<(View, Vec<f64>)>,
    taken: usize,
    gradients: Vec<(String, View)>,
}

impl Bench {
    pub(crate) fn new(real: Element, parameters: usize) -> Self {
        let (weights, gradients_before) = (exact(1, parameters), exact(2, parameters));
        let schedule = Schedule::new();
        Self { schedule, real, weights, gradients_before, values: Vec::new(), taken: 0, gradients: Vec::new() }
    }

    /// A buffer that starts with these values.
    pub(crate) fn input(&mut self, name: &str, element: Element, values: Vec<f64>) -> View {
        let view = self.schedule.buffer(name, element, values.len(), Lifetime::Persistent);
        self.values.push((view, values));
        view
    }

    /// An activation.
    pub(crate) fn activation(&mut self, name: &str, values: Vec<f64>) -> View {
        self.input(name, self.real, values)
    }

    /// The next parameter of the flat buffer.
    pub(crate) fn parameter(&mut self, name: &str, length: usize) -> Parameter {
        let range = self.taken..self.taken + length;
        self.taken += length;
        let values = self.weights[range.clone()].to_vec();
        let value = self.input(name, Element::F32, values.clone());
        let mirror = if self.real == Element::F32 { value } else { self.activation("mirror", values) };
        let gradient = self.input("gradient", Element::F32, self.gradients_before[range].to_vec());
        self.gradients.push((format!("gradient of {name}"), gradient));
        Parameter { value, mirror, gradient }
    }

    fn tables(&mut self, visible: &Visibility) -> Tables {
        let (samples, patches) = (visible.samples(), visible.patches_per_sample());
        let tables = Tables::new(&mut self.schedule, samples, patches, visible.visible());
        let TableValues { visible, slots, removed } = TableValues::from(visible);
        self.values.push((tables.visible, visible.into_iter().map(f64::from).collect()));
        self.values.push((tables.slots, slots.into_iter().map(f64::from).collect()));
        self.values.push((tables.removed, removed.into_iter().map(f64::from).collect()));
        tables
    }

    fn grid_tables(&mut self, grid: &Grid) -> Option<Tables> {
        match grid {
            Grid::Dense(..) => None,
            Grid::Sparse(_, visible) => Some(self.tables(visible)),
        }
    }

    /// What is in a buffer that is added to, before.
    pub(crate) fn before(&self, view: &View) -> &[f64] {
        self.values.iter().find(|(other, _)| other == view).map_or(&[], |(_, values)| values)
    }

    /// Everything to compare: what the operation names, and the gradients of its parameters.
    pub(crate) fn results(&self, found: Vec<(&'static str, View)>) -> Vec<(String, View)> {
        let found = found.into_iter().map(|(name, view)| (name.to_owned(), view));
        found.chain(self.gradients.clone()).collect()
    }

    pub(crate) fn run(&mut self, order: u32) -> Memory {
        let mut memory = Memory::new(&self.schedule);
        for (view, values) in &self.values {
            memory.set(view, values);
        }
        memory.run(&self.schedule, order);
        memory
    }
}

/// Cuts the flat gradient into the parameters' tensors.
fn with_gradients(mut tensors: Tensors, gradients: &[f64], names: &[(&str, usize)]) -> Tensors {
    let mut at = 0;
    for (name, length) in names {
        tensors.insert(format!("gradient of {name}"), gradients[at..at + length].to_vec());
        at += length;
    }
    assert_eq!(at, gradients.len(), "the parameters are not those of the flat buffer");
    tensors
}

fn tensors(list: impl IntoIterator<Item = (&'static str, Vec<f64>)>) -> Tensors {
    list.into_iter().map(|(name, values)| (name.to_owned(), values)).collect()
}

/// Names and lengths of an operation's parameters, in order.
fn names<T>(collect: impl FnOnce(&mut dyn FnMut(&str, usize) -> Parameter) -> T) -> Vec<(&'static str, usize)> {
    let mut names = Vec::new();
    let view = View { buffer: 0, element: Element::F32, offset: 0, length: 0 };
    collect(&mut |name, length| {
        names.push((&*name.to_owned().leak(), length));
        Parameter { value: view, mirror: view, gradient: view }
    });
    names
}

struct Stem {
    samples: usize,
    grid: Grid,
    sizes: [usize; 3],
}

impl Stem {
    fn plain(&self) -> stem::Shape<'_> {
        let [stride, channels, dim] = self.sizes;
        stem::Shape { samples: self.samples, cells: self.grid.cells(), stride, channels, dim }
    }

    fn shape(&self, real: Element) -> stem::cuda::Shape {
        let [stride, channels, dim] = self.sizes;
        let geometry = Geometry::from(self.grid.cells());
        stem::cuda::Shape { samples: self.samples, geometry, stride, channels, dim, real }
    }
}

impl Operation for Stem {
    fn name(&self) -> String {
        format!("stem {} {:?} {:?}", self.samples, self.sizes, self.grid)
    }

    fn parameters(&self) -> usize {
        self.plain().parameters()
    }

    fn reference(&self, bench: &mut Bench) -> Tensors {
        let (shape, mut gradients) = (self.plain(), bench.gradients_before.clone());
        let weights = stem::Weights::split(&bench.weights, &shape);
        let (images, grad) = (exact(3, shape.input()), exact(4, shape.output()));
        let mut grad_images = exact(5, shape.input());
        let out = stem::reference::forward(&shape, &weights, &images);
        let split = stem::Gradients::split(&mut gradients, &shape);
        stem::reference::backward(&shape, &weights, &images, &grad, &mut grad_images, split);
        let names = names(|get| stem::cuda::Parameters::named(&self.shape(bench.real).layer(), get));
        with_gradients(tensors([("output", out), ("gradient of the images", grad_images)]), &gradients, &names)
    }

    fn schedule(&self, bench: &mut Bench) -> Vec<(&'static str, View)> {
        let (plain, shape) = (self.plain(), self.shape(bench.real));
        let parameters = stem::cuda::Parameters::named(&shape.layer(), |name, length| bench.parameter(name, length));
        let tables = bench.grid_tables(&self.grid);
        let images = bench.input("images", Element::F32, exact(3, plain.input()));
        let grad = bench.activation("grad", exact(4, plain.output()));
        let grad_images = bench.input("grad_images", Element::F32, exact(5, plain.input()));
        let (s, tables) = (&mut bench.schedule, tables.as_ref());
        let (out, saved) = stem::cuda::forward(s, &shape, &parameters, tables, images).unwrap();
        let more = Some(grad_images);
        stem::cuda::backward(s, &shape, &parameters, tables, images, &saved, grad, more).unwrap();
        s.keep(out);
        vec![("output", out), ("gradient of the images", grad_images)]
    }
}

struct Block {
    samples: usize,
    grid: Grid,
    sizes: [usize; 3],
    flavour: Flavour,
    drop: bool,
}

impl Block {
    fn plain(&self) -> block::Shape<'_> {
        let [channels, hidden, kernel] = self.sizes;
        let cells = self.grid.cells();
        block::Shape { samples: self.samples, cells, channels, hidden, kernel, flavour: self.flavour }
    }

    fn shape(&self, real: Element) -> block::cuda::Shape {
        let [channels, hidden, kernel] = self.sizes;
        let geometry = Geometry::from(self.grid.cells());
        block::cuda::Shape { samples: self.samples, geometry, channels, hidden, kernel, flavour: self.flavour, real }
    }

    fn drop(&self) -> Option<Vec<f64>> {
        self.drop.then(|| [1.25, 0.0, 0.5].into_iter().cycle().take(self.samples).collect())
    }
}

impl Operation for Block {
    fn name(&self) -> String {
        let Self { samples, grid, sizes, flavour, drop } = self;
        format!("block {samples} {sizes:?} {flavour:?} drop path {drop} {grid:?}")
    }

    fn parameters(&self) -> usize {
        self.plain().parameters()
    }

    fn reference(&self, bench: &mut Bench) -> Tensors {
        let (shape, drop) = (self.plain(), self.drop());
        let (x, grad) = (exact(3, shape.activation()), exact(4, shape.activation()));
        let (mut gradients, mut grad_x) = (bench.gradients_before.clone(), vec![0.0; x.len()]);
        let weights = block::Weights::split(&bench.weights, &shape);
        let out = block::reference::forward(&shape, &weights, drop.as_deref(), &x);
        let split = block::Gradients::split(&mut gradients, &shape);
        block::reference::backward(&shape, &weights, drop.as_deref(), &x, &grad, &mut grad_x, split);
        let names = names(|get| block::cuda::Parameters::named(&self.shape(bench.real).layer(), get));
        let inferred = block::reference::forward(&shape, &weights, None, &x);
        let tensors = tensors([("output", out), ("inferred", inferred), ("gradient of the input", grad_x)]);
        with_gradients(tensors, &gradients, &names)
    }

    fn schedule(&self, bench: &mut Bench) -> Vec<(&'static str, View)> {
        let (plain, shape) = (self.plain(), self.shape(bench.real));
        let parameters = block::cuda::Parameters::named(&shape.layer(), |name, length| bench.parameter(name, length));
        let tables = bench.grid_tables(&self.grid);
        let drop = self.drop().map(|drop| bench.input("drop", Element::F32, drop));
        let x = bench.activation("x", exact(3, plain.activation()));
        let grad = bench.activation("grad", exact(4, plain.activation()));
        let (s, tables) = (&mut bench.schedule, tables.as_ref());
        let (out, saved) = block::cuda::forward(s, &shape, &parameters, tables, drop, x).unwrap();
        block::cuda::backward(s, &shape, &parameters, tables, drop, &saved, grad).unwrap();
        let inferred = block::cuda::infer(s, &shape, &parameters, tables, x).unwrap();
        s.keep(out);
        s.keep(inferred);
        vec![("output", out), ("inferred", inferred), ("gradient of the input", grad)]
    }
}

struct Downsample {
    samples: usize,
    grid: Grid,
    sizes: [usize; 2],
}

impl Downsample {
    fn plain(&self) -> downsample::Shape<'_> {
        let [channels, dim] = self.sizes;
        downsample::Shape { samples: self.samples, cells: self.grid.cells(), channels, dim }
    }

    fn shape(&self, real: Element) -> downsample::cuda::Shape {
        let ([channels, dim], geometry) = (self.sizes, Geometry::from(self.grid.cells()));
        downsample::cuda::Shape { samples: self.samples, geometry, channels, dim, real }
    }
}

impl Operation for Downsample {
    fn name(&self) -> String {
        format!("downsample {} {:?} {:?}", self.samples, self.sizes, self.grid)
    }

    fn parameters(&self) -> usize {
        self.plain().parameters()
    }

    fn reference(&self, bench: &mut Bench) -> Tensors {
        let (shape, mut gradients) = (self.plain(), bench.gradients_before.clone());
        let weights = downsample::Weights::split(&bench.weights, &shape);
        let (x, grad) = (exact(3, shape.input()), exact(4, shape.output()));
        let mut grad_x = vec![0.0; x.len()];
        let out = downsample::reference::forward(&shape, &weights, &x);
        let split = downsample::Gradients::split(&mut gradients, &shape);
        downsample::reference::backward(&shape, &weights, &x, &grad, &mut grad_x, split);
        let names = names(|get| downsample::cuda::Parameters::named(&self.shape(bench.real).layer(), get));
        with_gradients(tensors([("output", out), ("gradient of the input", grad_x)]), &gradients, &names)
    }

    fn schedule(&self, bench: &mut Bench) -> Vec<(&'static str, View)> {
        let (plain, shape) = (self.plain(), self.shape(bench.real));
        let parameters =
            downsample::cuda::Parameters::named(&shape.layer(), |name, length| bench.parameter(name, length));
        let x = bench.activation("x", exact(3, plain.input()));
        let grad = bench.activation("grad", exact(4, plain.output()));
        let s = &mut bench.schedule;
        let (out, saved) = downsample::cuda::forward(s, &shape, &parameters, x).unwrap();
        let grad_x = downsample::cuda::backward(s, &shape, &parameters, &saved, grad).unwrap();
        s.keep(out);
        s.keep(grad_x);
        vec![("output", out), ("gradient of the input", grad_x)]
    }
}

struct Head([usize; 4]);

impl Head {
    fn plain(&self) -> head::Shape {
        let [samples, rows, dim, classes] = self.0;
        head::Shape { samples, rows, dim, classes }
    }

    fn shape(&self, real: Element) -> head::cuda::Shape {
        let [samples, rows, dim, classes] = self.0;
        head::cuda::Shape { samples, rows, dim, classes, real }
    }
}

impl Operation for Head {
    fn name(&self) -> String {
        format!("head {:?}", self.0)
    }

    fn parameters(&self) -> usize {
        self.plain().parameters()
    }

    fn reference(&self, bench: &mut Bench) -> Tensors {
        let (shape, mut gradients) = (self.plain(), bench.gradients_before.clone());
        let weights = head::Weights::split(&bench.weights, &shape);
        let (x, grad) = (exact(3, shape.input()), exact(4, shape.output()));
        let mut grad_x = vec![0.0; x.len()];
        let out = head::reference::forward(&shape, &weights, &x);
        let split = head::Gradients::split(&mut gradients, &shape);
        head::reference::backward(&shape, &weights, &x, &grad, &mut grad_x, split);
        let names = names(|get| head::cuda::Parameters::named(&self.shape(bench.real).layer(), get));
        with_gradients(tensors([("output", out), ("gradient of the input", grad_x)]), &gradients, &names)
    }

    fn schedule(&self, bench: &mut Bench) -> Vec<(&'static str, View)> {
        let (plain, shape) = (self.plain(), self.shape(bench.real));
        let parameters = head::cuda::Parameters::named(&shape.layer(), |name, length| bench.parameter(name, length));
        let x = bench.activation("x", exact(3, plain.input()));
        let grad = bench.activation("grad", exact(4, plain.output()));
        let s = &mut bench.schedule;
        let (out, saved) = head::cuda::forward(s, &shape, &parameters, x).unwrap();
        let grad_x = head::cuda::backward(s, &shape, &parameters, &saved, grad).unwrap();
        s.keep(out);
        s.keep(grad_x);
        vec![("output", out), ("gradient of the input", grad_x)]
    }
}

struct Densify {
    visible: Visibility,
    sizes: [usize; 3],
}

impl Densify {
    fn plain(&self) -> densify::Shape<'_> {
        let [side, channels, dim] = self.sizes;
        densify::Shape { visible: &self.visible, side, channels, dim }
    }

    fn shape(&self, real: Element) -> densify::cuda::Shape {
        let [side, channels, dim] = self.sizes;
        let geometry = Geometry::from(Cells::Sparse { side, visible: &self.visible });
        densify::cuda::Shape { samples: self.visible.samples(), geometry, channels, dim, real }
    }
}

impl Operation for Densify {
    fn name(&self) -> String {
        format!("densify {:?} {:?}", self.sizes, self.visible)
    }

    fn parameters(&self) -> usize {
        self.plain().parameters()
    }

    fn reference(&self, bench: &mut Bench) -> Tensors {
        let (shape, mut gradients) = (self.plain(), bench.gradients_before.clone());
        let weights = densify::Weights::split(&bench.weights, &shape);
        let (x, grad) = (exact(3, shape.input()), exact(4, shape.output()));
        let mut grad_x = vec![0.0; x.len()];
        let out = densify::reference::forward(&shape, &weights, &x);
        let split = densify::Gradients::split(&mut gradients, &shape);
        densify::reference::backward(&shape, &weights, &x, &grad, &mut grad_x, split);
        let names = names(|get| densify::cuda::Parameters::named(&self.shape(bench.real).layer(), get));
        with_gradients(tensors([("output", out), ("gradient of the input", grad_x)]), &gradients, &names)
    }

    fn schedule(&self, bench: &mut Bench) -> Vec<(&'static str, View)> {
        let (plain, shape) = (self.plain(), self.shape(bench.real));
        let parameters = densify::cuda::Parameters::named(&shape.layer(), |name, length| bench.parameter(name, length));
        let tables = bench.tables(&self.visible);
        let x = bench.activation("x", exact(3, plain.input()));
        let grad = bench.activation("grad", exact(4, plain.output()));
        let s = &mut bench.schedule;
        let out = densify::cuda::forward(s, &shape, &parameters, &tables, x).unwrap();
        let grad_x = densify::cuda::backward(s, &shape, &parameters, &tables, x, grad).unwrap();
        s.keep(out);
        s.keep(grad_x);
        vec![("output", out), ("gradient of the input", grad_x)]
    }
}

struct MaskedMse {
    visible: Visibility,
    sizes: [usize; 4],
    normalised: bool,
}

const GRAD_LOSS: f64 = 0.75;

impl MaskedMse {
    fn plain(&self) -> masked_mse::Shape<'_> {
        let [stride, side, channels, dim] = self.sizes;
        masked_mse::Shape { visible: &self.visible, stride, side, channels, dim, normalised: self.normalised }
    }

    fn shape(&self, real: Element) -> masked_mse::cuda::Shape {
        let [stride, side, channels, dim] = self.sizes;
        masked_mse::cuda::Shape {
            samples: self.visible.samples(),
            geometry: Geometry::from(Cells::Sparse { side, visible: &self.visible }),
            stride,
            channels,
            dim,
            normalised: self.normalised,
            real,
        }
    }
}

impl Operation for MaskedMse {
    fn name(&self) -> String {
        format!("masked_mse {:?} normalised {} {:?}", self.sizes, self.normalised, self.visible)
    }

    fn parameters(&self) -> usize {
        self.plain().parameters()
    }

    fn reference(&self, bench: &mut Bench) -> Tensors {
        let (shape, mut gradients) = (self.plain(), bench.gradients_before.clone());
        let weights = masked_mse::Weights::split(&bench.weights, &shape);
        let (features, images) = (exact(3, shape.features()), exact(4, shape.images()));
        let mut grad = vec![0.0; features.len()];
        let loss = masked_mse::reference::forward(&shape, &weights, &features, &images);
        let split = masked_mse::Gradients::split(&mut gradients, &shape);
        masked_mse::reference::backward(&shape, &weights, &features, &images, GRAD_LOSS, &mut grad, split);
        let names = names(|get| masked_mse::cuda::Parameters::named(&self.shape(bench.real).layer(), get));
        with_gradients(tensors([("loss", vec![loss]), ("gradient of the features", grad)]), &gradients, &names)
    }

    fn schedule(&self, bench: &mut Bench) -> Vec<(&'static str, View)> {
        let (plain, shape) = (self.plain(), self.shape(bench.real));
        let parameters =
            masked_mse::cuda::Parameters::named(&shape.layer(), |name, length| bench.parameter(name, length));
        let tables = bench.tables(&self.visible);
        let features = bench.activation("features", exact(3, plain.features()));
        let images = bench.input("images", Element::F32, exact(4, plain.images()));
        let s = &mut bench.schedule;
        let loss = s.buffer("loss", Element::F32, 1, Lifetime::Persistent);
        let grad_loss = GRAD_LOSS as f32;
        let saved =
            masked_mse::cuda::forward(s, &shape, &parameters, &tables, features, images, grad_loss, loss).unwrap();
        let grad = masked_mse::cuda::backward(s, &shape, &parameters, &tables, &saved).unwrap();
        s.keep(grad);
        vec![("loss", loss), ("gradient of the features", grad)]
    }
}

struct CrossEntropy {
    samples: usize,
    classes: usize,
    /// What the logits are multiplied by: large ones overflow a softmax without its maximum.
    scale: f64,
}

impl CrossEntropy {
    fn values(&self) -> (Vec<f64>, Vec<f64>) {
        let length = self.samples * self.classes;
        let logits = exact(3, length).into_iter().map(|logit| logit * self.scale).collect();
        (logits, exact(4, length).into_iter().map(f64::abs).collect())
    }
}

impl Operation for CrossEntropy {
    fn name(&self) -> String {
        format!("cross entropy {} x {}", self.samples, self.classes)
    }

    fn parameters(&self) -> usize {
        0
    }

    fn reference(&self, _: &mut Bench) -> Tensors {
        let (logits, targets) = self.values();
        let mut grad = vec![0.0; logits.len()];
        let loss = cross_entropy::reference::forward(self.classes, &logits, &targets);
        cross_entropy::reference::backward(self.classes, &logits, &targets, GRAD_LOSS, &mut grad);
        tensors([("loss", vec![loss]), ("gradient of the logits", grad)])
    }

    fn schedule(&self, bench: &mut Bench) -> Vec<(&'static str, View)> {
        let shape = cross_entropy::cuda::Shape { samples: self.samples, classes: self.classes, real: bench.real };
        let (logits, targets) = self.values();
        let logits = bench.activation("logits", logits);
        let targets = bench.input("targets", Element::F32, targets);
        let s = &mut bench.schedule;
        let loss = s.buffer("loss", Element::F32, 1, Lifetime::Persistent);
        cross_entropy::cuda::forward_backward(s, &shape, logits, targets, GRAD_LOSS as f32, loss).unwrap();
        vec![("loss", loss), ("gradient of the logits", logits)]
    }
}

type Operations = Vec<Box<dyn Operation>>;

pub(crate) fn stems() -> Operations {
    use Grid::{Dense, Sparse};
    let mut list = Operations::new();
    for (samples, grid, sizes) in [
        (1, Dense(1, 1), [1, 1, 1]),
        (2, Dense(3, 5), [4, 3, 40]),
        (3, Sparse(2, visibility(3, 2, 3, 2)), [2, 1, 33]),
        (2, Sparse(1, visibility(2, 3, 3, 1)), [4, 3, 264]),
    ] {
        list.push(Box::new(Stem { samples, grid, sizes }));
    }
    list
}

pub(crate) fn blocks() -> Operations {
    use Flavour::{V1, V2};
    use Grid::{Dense, Sparse};
    let mut list = Operations::new();
    for (samples, grid, sizes, flavour, drop) in [
        (1, Dense(1, 1), [1, 1, 1], V2, false),
        (1, Dense(1, 1), [3, 5, 7], V2, true),
        // Two pieces a line, several segments a sample, several tiles of rows.
        (3, Dense(9, 17), [8, 40, 5], V2, true),
        (2, Dense(5, 7), [6, 24, 7], V1, true),
        // More kernel rows than one block takes.
        (1, Dense(4, 3), [4, 16, 9], V2, false),
        // More channels, and more features, than one block is wide.
        (1, Dense(2, 3), [520, 2056, 3], V2, false),
        (3, Sparse(2, visibility(3, 3, 4, 5)), [8, 32, 7], V2, true),
        (2, Sparse(1, visibility(2, 4, 3, 5)), [40, 160, 7], V2, false),
        (1, Sparse(1, visibility(1, 1, 2, 1)), [5, 7, 7], V2, false),
        (2, Sparse(4, visibility(2, 2, 2, 3)), [6, 8, 5], V1, false),
        (1, Sparse(16, visibility(1, 2, 2, 2)), [6, 4, 7], V2, false),
    ] {
        list.push(Box::new(Block { samples, grid, sizes, flavour, drop }));
    }
    list
}

pub(crate) fn downsamples() -> Operations {
    use Grid::{Dense, Sparse};
    let mut list = Operations::new();
    for (samples, grid, sizes) in [
        (1, Dense(2, 2), [1, 1]),
        (3, Dense(4, 6), [5, 7]),
        (2, Dense(10, 14), [40, 8]),
        (2, Sparse(4, visibility(2, 2, 3, 2)), [24, 6]),
        (1, Sparse(2, visibility(1, 2, 2, 1)), [352, 3]),
    ] {
        list.push(Box::new(Downsample { samples, grid, sizes }));
    }
    list
}

pub(crate) fn heads() -> Operations {
    let mut list = Operations::new();
    for sizes in [[1, 1, 1, 2], [3, 35, 24, 10], [2, 4, 2056, 3], [300, 1, 40, 9]] {
        list.push(Box::new(Head(sizes)));
    }
    list
}

pub(crate) fn ends() -> Operations {
    let mut list = Operations::new();
    for (visible, side, stride) in
        [(visibility(2, 2, 3, 2), 2, 3), (visibility(3, 3, 3, 4), 1, 4), (visibility(1, 1, 2, 1), 1, 1)]
    {
        list.push(Box::new(Densify { visible: visible.clone(), sizes: [side, 5, 24] }));
        for normalised in [false, true] {
            let visible = visible.clone();
            list.push(Box::new(MaskedMse { visible, sizes: [stride, side, 3, 24], normalised }));
        }
    }
    list
}

pub(crate) fn losses() -> Operations {
    let mut list = Operations::new();
    for (samples, classes, scale) in [(1, 1, 1.0), (3, 10, 1.0), (2, 1000, 1.0), (5, 7, 300.0)] {
        list.push(Box::new(CrossEntropy { samples, classes, scale }));
    }
    list
}
