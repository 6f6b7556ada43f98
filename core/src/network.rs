//! What a network is made of, told once: its parts in the order of a forward pass, which is that of checkpoints.
//!
//! A [`Network`] walks over a [`Plan`]. Whoever needs to know a network - a device's schedule, a graph for other runtimes, the
//! optimiser's rules, a table of costs - reads its [`Part`]s: where each is, what it computes and with which sizes, on
//! which cells, with which parameters, at which cost. The typed modules stand beside it, because their sizes are
//! types; a test holds their parameters to the walk's.
//!
//! To add an operation to a model: its variant of [`Kind`], its [`Location`] with a name in [`names`], its place in
//! [`Network::part`].

use crate::{
    geometry::Geometry,
    launch::operation::{BatchShape, DeviceOperation, Get, OnDevice},
    ops::{Declared, Role, block, densify, downsample, head, masked_mse, stem},
    plan::{EXPANSION, FcmaePlan, Patches, Plan, StagePlan},
};

/// A variant's classifier, or its masked autoencoder: a walk over its parts.
#[derive(Debug, Clone, Copy)]
pub struct Network<'a> {
    plan: &'a Plan,
    /// Of an autoencoder, whose encoder sees visible patches only.
    fcmae: Option<(FcmaePlan, Patches)>,
}

/// One part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// Where it is.
    pub location: Location,
    /// What it computes, and its sizes.
    pub kind: Kind,
    /// Cells of its input; of a stem, of its output.
    pub geometry: Geometry,
}

/// Where a part is. Stages and blocks are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// Before the first stage.
    Stem,
    /// Before a later stage.
    Downsample {
        /// The stage.
        stage: usize,
    },
    /// In a stage.
    Block {
        /// The stage.
        stage: usize,
        /// The block in it.
        block: usize,
        /// The block, counted over all stages.
        number: usize,
    },
    /// Behind a classifier's encoder.
    Head,
    /// Behind an autoencoder's encoder.
    Densify,
    /// In the decoder.
    Decoder {
        /// The block.
        block: usize,
    },
    /// Behind the decoder.
    Prediction,
}

/// What parts are called in checkpoints; `{}` stands for a number, counted from 0.
pub mod names {
    /// What the names of the encoder's parts begin with.
    pub const ENCODER: &str = "encoder.";
    /// The stem.
    pub const STEM: &str = "encoder.stem";
    /// A downsampling, by its stage.
    pub const DOWNSAMPLE: &str = "encoder.stages.{}.downsample";
    /// A block of the encoder, by its stage and its number there.
    pub const BLOCK: &str = "encoder.stages.{}.blocks.{}";
    /// The classifier's head.
    pub const HEAD: &str = "head";
    /// The densification.
    pub const DENSIFY: &str = "densify";
    /// A block of the decoder.
    pub const DECODER: &str = "decoder.{}";
    /// The prediction.
    pub const PREDICTION: &str = "prediction";
}

fn numbered(name: &str, numbers: &[usize]) -> String {
    numbers.iter().fold(name.to_owned(), |name, number| name.replacen("{}", &number.to_string(), 1))
}

/// The operations, with what their parameters follow from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// [`ops::stem`](crate::ops::stem).
    Stem(stem::Layer),
    /// [`ops::block`](crate::ops::block).
    Block(block::Layer),
    /// [`ops::downsample`](crate::ops::downsample).
    Downsample(downsample::Layer),
    /// [`ops::head`](crate::ops::head).
    Head(head::Layer),
    /// [`ops::densify`](crate::ops::densify).
    Densify(densify::Layer),
    /// [`ops::masked_mse`](crate::ops::masked_mse).
    Prediction(masked_mse::Layer),
}

/// The same expression for a layer of whatever kind.
macro_rules! each {
    ($kind:expr, $layer:ident => $result:expr) => {
        match $kind {
            Kind::Stem($layer) => $result,
            Kind::Block($layer) => $result,
            Kind::Downsample($layer) => $result,
            Kind::Head($layer) => $result,
            Kind::Densify($layer) => $result,
            Kind::Prediction($layer) => $result,
        }
    };
}

/// A parameter of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in checkpoints, e.g. `encoder.stages.0.blocks.1.grn.gamma`.
    pub name: String,
    /// Its sizes, row-major; the outputs of a weight are the last.
    pub shape: Vec<usize>,
    /// What it is to its layer.
    pub role: Role,
    /// Where its layer is.
    pub location: Location,
}

impl Plan {
    /// The classifier: encoder and head.
    pub const fn classifier(&self) -> Network<'_> {
        Network { plan: self, fcmae: None }
    }

    /// The masked autoencoder, if a pre-training is declared: encoder, densification, decoder, prediction.
    pub const fn autoencoder(&self) -> Option<Network<'_>> {
        match (self.fcmae, self.patches()) {
            (Some(fcmae), Some(patches)) => Some(Network { plan: self, fcmae: Some((fcmae, patches)) }),
            _ => None,
        }
    }
}

impl<'a> Network<'a> {
    /// What it is a network of.
    pub const fn plan(&self) -> &'a Plan {
        self.plan
    }

    /// The parts, in order.
    pub fn parts(self) -> impl Iterator<Item = Part> + use<'a> {
        (0..).map_while(move |index| self.part(index))
    }

    /// The parameters, in order.
    pub fn declared(self) -> impl Iterator<Item = Parameter> + use<'a> {
        self.parts().flat_map(|part| part.declared())
    }

    /// One of the parts, counted from 0; `None` behind the last.
    pub const fn part(&self, index: usize) -> Option<Part> {
        let mut behind = index;
        let mut stage = 0;
        while stage < self.plan.stages.len() {
            if behind == 0 {
                return Some(self.before(stage));
            }
            let depth = self.plan.stages[stage].depth;
            if behind <= depth {
                return Some(self.block(stage, behind - 1));
            }
            behind -= 1 + depth;
            stage += 1;
        }
        match self.fcmae {
            None => self.head(behind),
            Some((fcmae, patches)) => self.decoder(&fcmae, patches, behind),
        }
    }

    /// Number of parameters.
    pub const fn parameters(&self) -> u64 {
        let (mut sum, mut index) = (0, 0);
        while let Some(part) = self.part(index) {
            sum += part.parameters();
            index += 1;
        }
        sum
    }

    /// Multiply-adds of convolutions and matrix products for one image; those of the encoder for visible cells only where
    /// it sees no others. `u64::MAX` if there are more.
    pub const fn multiply_adds(&self) -> u64 {
        let (mut sum, mut index) = (0_u64, 0);
        while let Some(part) = self.part(index) {
            sum = sum.saturating_add(part.multiply_adds());
            index += 1;
        }
        sum
    }

    /// The cells of a stage.
    const fn cells(&self, stage: usize) -> Geometry {
        match self.fcmae {
            None => self.plan.grid(stage),
            Some((fcmae, patches)) => patches.cells(fcmae.patch / self.plan.stride_of(stage)),
        }
    }

    /// What comes before the blocks of a stage.
    const fn before(&self, stage: usize) -> Part {
        let dim = self.plan.stages[stage].dim;
        if stage == 0 {
            let kind = Kind::Stem(stem::Layer { stride: self.plan.stem, channels: self.plan.channels, dim });
            return Part { location: Location::Stem, kind, geometry: self.cells(0) };
        }
        let kind = Kind::Downsample(downsample::Layer { channels: self.plan.stages[stage - 1].dim, dim });
        Part { location: Location::Downsample { stage }, kind, geometry: self.cells(stage - 1) }
    }

    const fn block(&self, stage: usize, block: usize) -> Part {
        let StagePlan { dim, kernel, .. } = self.plan.stages[stage];
        let number = self.plan.blocks_before(stage) + block;
        let location = Location::Block { stage, block, number };
        Part { location, kind: self.block_of(dim, kernel), geometry: self.cells(stage) }
    }

    const fn block_of(&self, channels: usize, kernel: usize) -> Kind {
        let hidden = channels.saturating_mul(EXPANSION);
        Kind::Block(block::Layer { channels, hidden, kernel, flavour: self.plan.flavour })
    }

    const fn head(&self, behind: usize) -> Option<Part> {
        if behind > 0 || self.plan.stages.is_empty() {
            return None;
        }
        let kind = Kind::Head(head::Layer { dim: self.plan.last().dim, classes: self.plan.classes });
        Some(Part { location: Location::Head, kind, geometry: self.cells(self.plan.stages.len() - 1) })
    }

    const fn decoder(&self, fcmae: &FcmaePlan, patches: Patches, behind: usize) -> Option<Part> {
        let (plan, dim) = (self.plan, fcmae.decoder_dim);
        let visible = patches.cells(fcmae.patch / plan.stride());
        if behind == 0 {
            let kind = Kind::Densify(densify::Layer { channels: plan.last().dim, dim });
            return Some(Part { location: Location::Densify, kind, geometry: visible });
        }
        if behind <= fcmae.decoder_depth {
            let location = Location::Decoder { block: behind - 1 };
            return Some(Part { location, kind: self.block_of(dim, fcmae.decoder_kernel), geometry: visible.dense() });
        }
        if behind > fcmae.decoder_depth + 1 {
            return None;
        }
        let FcmaePlan { normalised, .. } = *fcmae;
        let kind =
            Kind::Prediction(masked_mse::Layer { stride: plan.stride(), channels: plan.channels, dim, normalised });
        Some(Part { location: Location::Prediction, kind, geometry: visible })
    }
}

impl Location {
    /// The stage that it belongs to, with the stem in the first; `None` outside of the encoder.
    pub const fn stage(self) -> Option<usize> {
        match self {
            Self::Stem => Some(0),
            Self::Downsample { stage } | Self::Block { stage, .. } => Some(stage),
            Self::Head | Self::Densify | Self::Decoder { .. } | Self::Prediction => None,
        }
    }
}

impl Part {
    /// Its name in checkpoints, e.g. `encoder.stages.0.blocks.1`.
    pub fn name(&self) -> String {
        match self.location {
            Location::Stem => numbered(names::STEM, &[]),
            Location::Downsample { stage } => numbered(names::DOWNSAMPLE, &[stage]),
            Location::Block { stage, block, .. } => numbered(names::BLOCK, &[stage, block]),
            Location::Head => numbered(names::HEAD, &[]),
            Location::Densify => numbered(names::DENSIFY, &[]),
            Location::Decoder { block } => numbered(names::DECODER, &[block]),
            Location::Prediction => numbered(names::PREDICTION, &[]),
        }
    }

    /// The stage that it belongs to, with the stem in the first; `None` outside of the encoder.
    pub const fn stage(&self) -> Option<usize> {
        self.location.stage()
    }

    /// The parameters, in order.
    pub fn declared(&self) -> Vec<Parameter> {
        let (part, location) = (self.name(), self.location);
        let declared = each!(self.kind, layer => layer.declared()).into_iter();
        let named =
            |Declared { name, shape, role }| Parameter { name: format!("{part}.{name}"), shape, role, location };
        declared.map(named).collect()
    }

    /// Number of parameters.
    pub const fn parameters(&self) -> u64 {
        each!(self.kind, layer => layer.parameters()) as u64
    }

    /// Multiply-adds for one image; `u64::MAX` if there are more.
    pub const fn multiply_adds(&self) -> u64 {
        each!(self.kind, layer => layer.multiply_adds(self.geometry))
    }

    /// The part on a device, for batches of one size; `get` gives a parameter its place, by its name in checkpoints.
    pub fn on_device(&self, batch: BatchShape, get: &mut Get) -> Box<dyn DeviceOperation> {
        let name = self.name();
        let get = &mut |parameter: &str, length: usize| get(&format!("{name}.{parameter}"), length);
        each!(self.kind, layer => layer.on_device(self.geometry, batch, get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Decimal, Flavour};

    const ATTO: &[[usize; 2]] = &[[40, 2], [80, 2], [160, 6], [320, 2]];
    const FEMTO: &[[usize; 2]] = &[[48, 2], [96, 2], [192, 6], [384, 2]];
    const PICO: &[[usize; 2]] = &[[64, 2], [128, 2], [256, 6], [512, 2]];
    const NANO: &[[usize; 2]] = &[[80, 2], [160, 2], [320, 8], [640, 2]];
    const TINY: &[[usize; 2]] = &[[96, 3], [192, 3], [384, 9], [768, 3]];
    const BASE: &[[usize; 2]] = &[[128, 3], [256, 3], [512, 27], [1024, 3]];
    const LARGE: &[[usize; 2]] = &[[192, 3], [384, 3], [768, 27], [1536, 3]];
    const HUGE: &[[usize; 2]] = &[[352, 3], [704, 3], [1408, 27], [2816, 3]];

    /// Stages of `[dim, depth]`.
    fn stages(stages: &[[usize; 2]], kernel: usize) -> &'static [StagePlan] {
        let stages: Vec<_> = stages.iter().map(|&[dim, depth]| StagePlan { dim, depth, kernel }).collect();
        Box::leak(stages.into())
    }

    /// The paper's variant with these stages, on square images.
    fn paper(size: usize, sizes: &[[usize; 2]]) -> Plan {
        let fcmae = FcmaePlan {
            patch: 32,
            mask: Decimal { digits: 6, one: 10 },
            decoder_dim: 512,
            decoder_depth: 1,
            decoder_kernel: 7,
            normalised: true,
        };
        Plan {
            height: size,
            width: size,
            channels: 3,
            stem: 4,
            stages: stages(sizes, 7),
            classes: 1000,
            fcmae: Some(fcmae),
            ..Plan::blank("paper")
        }
    }

    /// A wide one of two stages.
    fn small() -> Plan {
        let fcmae = FcmaePlan {
            patch: 16,
            mask: Decimal { digits: 5, one: 10 },
            decoder_dim: 12,
            decoder_depth: 2,
            decoder_kernel: 3,
            normalised: true,
        };
        let wide = Plan { width: 64, classes: 10, stages: stages(&[[8, 1], [16, 2]], 7), ..paper(32, ATTO) };
        Plan { fcmae: Some(fcmae), ..wide }
    }

    /// Parameters in millions, as timm's model cards print them.
    #[test]
    fn parameters_of_the_paper() {
        let table = [
            (ATTO, "3.71"),
            (FEMTO, "5.23"),
            (PICO, "9.07"),
            (NANO, "15.62"),
            (TINY, "28.64"),
            (BASE, "88.72"),
            (LARGE, "197.96"),
            (HUGE, "660.29"),
        ];
        for (stages, parameters) in table {
            let millions = paper(224, stages).classifier().parameters() as f64 / 1e6;
            assert_eq!(format!("{millions:.2}"), parameters, "{stages:?}");
        }
    }

    /// Published multiply-adds (timm's model cards; the last two: the official README), to all their digits.
    ///
    /// They are ours, with five more for each value that a layer normalisation makes: their counter's habit.
    #[test]
    fn multiply_adds_of_the_paper() {
        let table = [
            (224, ATTO, "0.55"),
            (224, FEMTO, "0.79"),
            (224, PICO, "1.37"),
            (224, NANO, "2.46"),
            (224, TINY, "4.47"),
            (224, BASE, "15.38"),
            (224, LARGE, "34.4"),
            (224, HUGE, "115.0"),
            (384, BASE, "45.2"),
            (512, HUGE, "600.8"),
        ];
        for (size, stages, printed) in table {
            let plan = paper(size, stages);
            let counted = plan.classifier().multiply_adds() + 5 * normalised_values(&plan);
            let digits = printed.split_once('.').map_or(0, |(_, decimals)| decimals.len());
            assert_eq!(format!("{:.digits$}", counted as f64 / 1e9), printed, "{stages:?} at {size}");
        }
    }

    /// Values that layer normalisations produce: one after the stem, one a block, one before each downsampling.
    fn normalised_values(plan: &Plan) -> u64 {
        let cells = |stage: usize| (plan.grid(stage).rows() * plan.stages[stage].dim) as u64;
        let last = plan.stages.len() - 1;
        let all = (0..=last).map(|stage| cells(stage) * (plan.stages[stage].depth as u64 + 1)).sum::<u64>();
        all - cells(last) + cells(0)
    }

    /// Every tensor of a small model counted by hand.
    #[test]
    fn parameters_by_hand() {
        let square = Plan { height: 8, width: 8, stem: 2, classes: 5, ..paper(8, ATTO) };
        let plan = Plan { stages: stages(&[[2, 1], [4, 1]], 3), fcmae: None, ..square };
        let stem = (2 * 2 * 3 * 2 + 2) + (2 + 2);
        let block = |dim: u64| {
            (9 * dim + dim) + (dim + dim) + (dim * 4 * dim + 4 * dim) + (4 * dim + 4 * dim) + (4 * dim * dim + dim)
        };
        let downsample = (2 + 2) + (2 * 2 * 2 * 4 + 4);
        let head = (4 + 4) + (4 * 5 + 5);
        let network = plan.classifier();
        assert_eq!(network.parameters(), stem + block(2) + downsample + block(4) + head);
        let first = network.parts().filter(|part| part.stage() == Some(0));
        assert_eq!(first.map(|part| part.parameters()).sum::<u64>(), stem + block(2));
        let stem = 4 * 4 * (2 * 2 * 3 * 2);
        let block = |cells: u64, dim: u64| cells * (9 * dim + 2 * dim * 4 * dim);
        let downsample = 2 * 2 * (2 * 2 * 2 * 4);
        assert_eq!(network.multiply_adds(), stem + block(16, 2) + downsample + block(4, 4) + 4 * 5);
    }

    /// V1 has one scale a channel where V2 has two for each of its four hidden ones.
    #[test]
    fn flavours_differ_in_their_scales() {
        let parameters = |flavour| Plan { flavour, ..small() }.classifier().parameters();
        let dims = 8 + 2 * 16;
        assert_eq!(parameters(Flavour::V2) - parameters(Flavour::V1), (8 - 1) * dims);
    }

    #[test]
    fn autoencoder_by_hand() {
        let plan = small();
        assert_eq!(plan.patches(), Some(Patches { high: 2, wide: 4, visible: 4 }));
        let (classifier, autoencoder) = (plan.classifier(), plan.autoencoder().unwrap());
        let head = (16 + 16) + (16 * 10 + 10);
        let densify = (16 * 12 + 12) + 12;
        let block = (9 * 12 + 12) + 24 + (12 * 48 + 48) + 96 + (48 * 12 + 12);
        let prediction = 12 * 192 + 192;
        let encoder = classifier.parameters() - head;
        assert_eq!(autoencoder.parameters(), encoder + densify + 2 * block + prediction);
        // Half of the cells are visible, so the encoder costs half; the decoder runs on the 4 x 8 grid.
        let encoder = (classifier.multiply_adds() - 16 * 10) / 2;
        let decoder = 32 * (2 * (9 * 12 + 2 * 12 * 48) + 12 * 192);
        assert_eq!(autoencoder.multiply_adds(), encoder + 16 * 16 * 12 + decoder);
    }

    /// The largest sizes that the language allows have more multiply-adds than 64 bits count.
    #[test]
    fn more_than_can_be_counted_is_the_most() {
        let plan = Plan { stem: 1, stages: stages(&[[65536, 256]], 63), ..paper(65536, ATTO) };
        assert_eq!(plan.classifier().multiply_adds(), u64::MAX);
    }

    /// All numbers are there at compile time.
    #[test]
    fn a_walk_is_constant() {
        const STAGES: &[StagePlan] = &[StagePlan { dim: 2, depth: 1, kernel: 3 }];
        const PLAN: Plan = Plan {
            height: 4,
            width: 4,
            stem: 2,
            flavour: Flavour::V1,
            stages: STAGES,
            classes: 2,
            ..Plan::blank("constant")
        };
        const PARAMETERS: u64 = PLAN.classifier().parameters();
        let block = (18 + 2) + 4 + (16 + 8) + (16 + 2) + 2;
        assert_eq!(PARAMETERS, (8 + 2 + 4) + block + (4 + 4 + 2));
    }

    #[test]
    fn parts_come_in_order_with_their_cells() {
        let plan = small();
        let walk = |network: Network| {
            let walk = network.parts().map(|part| (part.name(), part.geometry.rows(), part.geometry.height()));
            walk.collect::<Vec<_>>()
        };
        let owned = |walk: &[(&str, usize, usize)]| {
            walk.iter().map(|&(name, rows, height)| (name.to_owned(), rows, height)).collect::<Vec<_>>()
        };
        assert_eq!(
            walk(plan.classifier()),
            owned(&[
                ("encoder.stem", 128, 8),
                ("encoder.stages.0.blocks.0", 128, 8),
                ("encoder.stages.1.downsample", 128, 8),
                ("encoder.stages.1.blocks.0", 32, 4),
                ("encoder.stages.1.blocks.1", 32, 4),
                ("head", 32, 4),
            ])
        );
        assert_eq!(
            walk(plan.autoencoder().unwrap())[3..],
            owned(&[
                ("encoder.stages.1.blocks.0", 16, 4),
                ("encoder.stages.1.blocks.1", 16, 4),
                ("densify", 16, 4),
                ("decoder.0", 32, 4),
                ("decoder.1", 32, 4),
                ("prediction", 16, 4),
            ])
        );
        let numbers = plan.classifier().parts().filter_map(|part| match part.location {
            Location::Block { number, .. } => Some(number),
            _ => None,
        });
        assert_eq!(numbers.collect::<Vec<_>>(), [0, 1, 2]);
    }
}
