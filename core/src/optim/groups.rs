//! Which parameters decay, and how fast each layer learns. Both are read from the
//! network.

use std::collections::HashMap;

use thiserror::Error;

use super::{Layout, Segment};
use crate::{
    network::{Location, Network, Parameter},
    plan::Plan,
};

/// Consecutive blocks of a stage that share an id under [`LayerDecayMode::Group`].
const GROUP: usize = 3;

/// How blocks get their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerDecayMode {
    /// Every block has its own id, counted from 1. The stem and a downsample share the id of their stage's first block.
    Single,
    /// Three consecutive blocks of a stage share an id, counted from 1; a downsample shares the id of its stage's first
    /// group; the stem has id 0. Stages of 3, 3, 27 and 3 blocks make the 12 groups of the official rule; a stage whose
    /// depth is no multiple of three ends with a smaller group, and no group crosses a stage.
    Group,
}

/// Learning rates that shrink towards the input: a layer's is scaled by `rate ^ (last id - its id)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerDecay {
    /// Factor from a layer to the one before it, in `(0, 1]`.
    pub rate: f64,
    /// How layers are numbered.
    pub mode: LayerDecayMode,
}

impl LayerDecay {
    /// Every block its own id.
    pub fn single(rate: f64) -> Self {
        Self { rate, mode: LayerDecayMode::Single }
    }

    /// Three blocks an id.
    pub fn group(rate: f64) -> Self {
        Self { rate, mode: LayerDecayMode::Group }
    }
}

/// What the optimiser does to one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Elements of the flat buffer.
    pub range: std::ops::Range<usize>,
    /// Whether weight decay acts on it.
    pub decays: bool,
    /// Factor on the learning rate.
    pub lr_scale: f64,
}

/// A layout that is not the network's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GroupError {
    /// The network has no parameter of this name.
    #[error("`{name}` is not a part of a network with {depths:?} blocks; was the layout made from another variant?")]
    NoSuchLayer {
        /// The parameter.
        name: String,
        /// Blocks of each stage.
        depths: Vec<usize>,
    },
}

/// The rule of every tensor of `layout`, in its order: that of the classifier or the autoencoder of `plan`.
///
/// Without `decay`, every learning rate is scaled by 1.
///
/// # Errors
/// [`GroupError`] when the layout has a tensor that neither network has.
pub fn rules(layout: &Layout, plan: &Plan, decay: Option<LayerDecay>) -> Result<Vec<Rule>, GroupError> {
    let known = Known::of(plan);
    let rule = |segment: &Segment| {
        let parameter = known.find(&segment.name)?;
        let lr_scale = decay.map_or(1.0, |decay| decay.scale(parameter.location, plan));
        Ok(Rule { range: segment.range.clone(), decays: parameter.role.decays(), lr_scale })
    };
    layout.segments().iter().map(rule).collect()
}

/// The layer id of every tensor of `layout`, in its order.
///
/// # Errors
/// [`GroupError`] when the layout has a tensor that neither network of `plan` has.
pub fn layer_ids(layout: &Layout, plan: &Plan, mode: LayerDecayMode) -> Result<Vec<usize>, GroupError> {
    let known = Known::of(plan);
    layout.segments().iter().map(|segment| Ok(layer_id(known.find(&segment.name)?.location, plan, mode))).collect()
}

/// The parameters of a plan's networks, by name.
struct Known<'a> {
    plan: &'a Plan,
    parameters: HashMap<String, Parameter>,
}

impl<'a> Known<'a> {
    fn of(plan: &'a Plan) -> Self {
        let networks = [Some(plan.classifier()), plan.autoencoder()].into_iter().flatten();
        let parameters = networks.flat_map(Network::declared);
        Self { plan, parameters: parameters.map(|parameter| (parameter.name.clone(), parameter)).collect() }
    }

    fn find(&self, name: &str) -> Result<&Parameter, GroupError> {
        let depths = || self.plan.stages.iter().map(|stage| stage.depth).collect();
        self.parameters.get(name).ok_or_else(|| GroupError::NoSuchLayer { name: name.into(), depths: depths() })
    }
}

impl LayerDecay {
    /// Factor on the learning rate of a layer.
    fn scale(self, location: Location, plan: &Plan) -> f64 {
        let below = last_layer_id(plan, self.mode) - layer_id(location, plan, self.mode);
        self.rate.powi(below as i32)
    }
}

/// The id of the head, and of everything that is not in the encoder: one more than the last block's.
fn last_layer_id(plan: &Plan, mode: LayerDecayMode) -> usize {
    ids_before(plan, plan.stages.len(), mode) + 1
}

/// The id of a layer. What is neither stem nor block has that of its stage's first block.
fn layer_id(location: Location, plan: &Plan, mode: LayerDecayMode) -> usize {
    match (location, location.stage()) {
        (Location::Stem, _) => stem_id(mode),
        (Location::Block { stage, block, .. }, _) => block_id(stage, block, plan, mode),
        (_, Some(stage)) => block_id(stage, 0, plan, mode),
        (_, None) => last_layer_id(plan, mode),
    }
}

/// In the official code the stem is the first of four downsamples: "single" gives it its stage's first id, "group" 0.
fn stem_id(mode: LayerDecayMode) -> usize {
    match mode {
        LayerDecayMode::Single => 1,
        LayerDecayMode::Group => 0,
    }
}

fn block_id(stage: usize, block: usize, plan: &Plan, mode: LayerDecayMode) -> usize {
    let within = match mode {
        LayerDecayMode::Single => block,
        LayerDecayMode::Group => block / GROUP,
    };
    ids_before(plan, stage, mode) + within + 1
}

/// Ids that the blocks of the stages before this one take.
fn ids_before(plan: &Plan, stage: usize, mode: LayerDecayMode) -> usize {
    match mode {
        LayerDecayMode::Single => plan.blocks_before(stage),
        LayerDecayMode::Group => plan.stages[..stage].iter().map(|stage| stage.depth.div_ceil(GROUP)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::{LayerDecayMode::*, *};
    use crate::plan::{Decimal, FcmaePlan, Flavour, StagePlan};

    const ATTO: [usize; 4] = [2, 2, 6, 2];
    const BASE: [usize; 4] = [3, 3, 27, 3];

    /// A variant with these blocks.
    fn plan(depths: &[usize]) -> Plan {
        let stages: Vec<_> = depths.iter().map(|&depth| StagePlan { dim: 8, depth, kernel: 3 }).collect();
        let side = 4 << depths.len();
        let decoder = FcmaePlan {
            patch: side / 2,
            mask: Decimal { digits: 5, one: 10 },
            decoder_dim: 8,
            decoder_depth: 1,
            decoder_kernel: 3,
            normalised: true,
        };
        Plan {
            height: side,
            width: side,
            channels: 3,
            stem: 4,
            stages: Box::leak(stages.into()),
            classes: 10,
            fcmae: Some(decoder),
            ..Plan::blank("own")
        }
    }

    fn layout(network: Network<'_>) -> Layout {
        Layout::new(network.declared().map(|parameter| (parameter.name, parameter.shape))).unwrap()
    }

    /// The ids of all layers, in the order of the network.
    fn numbers(mode: LayerDecayMode, depths: &[usize]) -> Vec<usize> {
        let plan = plan(depths);
        plan.classifier().parts().map(|part| layer_id(part.location, &plan, mode)).collect()
    }

    // The tables list: stem; blocks of stage 0; then for each stage its downsample and its blocks; head.
    // They are the official rule worked out by hand: get_num_layer_for_convnext{_single,} in ConvNeXt-V2's optim_factory.

    #[test]
    fn atto_single() {
        let table = [1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 8, 9, 10, 11, 11, 12, 13];
        assert_eq!(numbers(Single, &ATTO), table);
        assert_eq!(last_layer_id(&plan(&ATTO), Single), 13);
    }

    #[test]
    fn base_single() {
        let mut table = vec![1, 1, 2, 3, 4, 4, 5, 6, 7];
        table.extend(7..=33);
        table.extend([34, 34, 35, 36, 37]);
        assert_eq!(numbers(Single, &BASE), table);
    }

    #[test]
    fn base_group() {
        let mut table = vec![0, 1, 1, 1, 2, 2, 2, 2, 3];
        table.extend((3..=11).flat_map(|id| [id; 3]));
        table.extend([12, 12, 12, 12, 13]);
        assert_eq!(numbers(Group, &BASE), table);
        assert_eq!(last_layer_id(&plan(&BASE), Group), 13);
    }

    #[test]
    fn atto_group() {
        let table = [0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6];
        assert_eq!(numbers(Group, &ATTO), table);
    }

    #[test]
    fn ids_never_fall_towards_the_head() {
        for depths in [&ATTO[..], &BASE, &[1], &[4, 5], &[3, 3, 9, 3]] {
            for mode in [Single, Group] {
                let ids = numbers(mode, depths);
                assert!(ids.is_sorted(), "{depths:?} {mode:?} {ids:?}");
                assert_eq!(*ids.last().unwrap(), last_layer_id(&plan(depths), mode));
            }
        }
    }

    #[test]
    fn pre_training_parts_learn_at_the_full_rate() {
        let plan = plan(&ATTO);
        let layout = layout(plan.autoencoder().unwrap());
        let ids = layer_ids(&layout, &plan, Single).unwrap();
        let outside = layout.segments().iter().zip(ids).filter(|(segment, _)| !segment.name.starts_with("encoder."));
        let outside: Vec<_> = outside.collect();
        assert!(outside.iter().any(|(segment, _)| segment.name == "densify.mask_token"));
        assert!(outside.iter().all(|&(_, id)| id == 13), "{outside:?}");
    }

    #[test]
    fn scales_are_powers_of_the_rate() {
        let layout = Layout::new([
            ("encoder.stem.conv.weight", vec![4, 4, 3, 40]),
            ("encoder.stages.2.blocks.5.grn.gamma", vec![640]),
            ("head.linear.bias", vec![1000]),
        ])
        .unwrap();
        let check = |decay, expected: [f64; 3]| {
            for (rule, expected) in rules(&layout, &plan(&ATTO), decay).unwrap().iter().zip(expected) {
                assert!((rule.lr_scale - expected).abs() < 1e-12, "{rule:?}");
            }
        };
        check(Some(LayerDecay::single(0.9)), [0.282_429_536_481, 0.729, 1.0]);
        check(Some(LayerDecay::group(0.5)), [0.015_625, 0.25, 1.0]);
        check(None, [1.0; 3]);
    }

    #[test]
    fn a_layer_of_another_network_is_refused() {
        for name in ["encoder.stages.4.blocks.0.norm.weight", "encoder.stages.0.blocks.2.norm.weight", "extra.kernel"] {
            let layout = Layout::new([(name, vec![8])]).unwrap();
            let refused =
                [rules(&layout, &plan(&ATTO), None).map(drop), layer_ids(&layout, &plan(&ATTO), Single).map(drop)];
            assert!(refused.iter().all(|refused| matches!(refused, Err(GroupError::NoSuchLayer { .. }))), "{name}");
        }
    }

    /// Convolutions and linear layers decay, and nothing else.
    #[test]
    fn weights_decay() {
        let two = [1, 1];
        let decayed = [
            "encoder.stem.conv.weight",
            "encoder.stages.0.blocks.0.dwconv.weight",
            "encoder.stages.0.blocks.0.pwconv1.weight",
            "encoder.stages.0.blocks.0.pwconv2.weight",
            "encoder.stages.1.downsample.conv.weight",
            "encoder.stages.1.blocks.0.dwconv.weight",
            "encoder.stages.1.blocks.0.pwconv1.weight",
            "encoder.stages.1.blocks.0.pwconv2.weight",
            "densify.projection.weight",
            "decoder.0.dwconv.weight",
            "decoder.0.pwconv1.weight",
            "decoder.0.pwconv2.weight",
            "prediction.weight",
            "head.linear.weight",
        ];
        let left_alone = [
            "encoder.stem.conv.bias",
            "encoder.stem.norm.weight",
            "encoder.stem.norm.bias",
            "encoder.stages.1.downsample.norm.weight",
            "encoder.stages.1.downsample.conv.bias",
            "encoder.stages.1.blocks.0.dwconv.bias",
            "encoder.stages.1.blocks.0.norm.weight",
            "encoder.stages.1.blocks.0.norm.bias",
            "densify.projection.bias",
            "densify.mask_token",
            "prediction.bias",
            "head.norm.weight",
            "head.linear.bias",
        ];
        let scales = [
            (Flavour::V2, &["encoder.stages.1.blocks.0.grn.gamma", "encoder.stages.1.blocks.0.grn.beta"][..]),
            (Flavour::V1, &["encoder.stages.1.blocks.0.layer_scale.gamma"]),
        ];
        for (flavour, scales) in scales {
            let plan = Plan { flavour, ..plan(&two) };
            let networks = [plan.autoencoder().unwrap(), plan.classifier()].map(layout);
            let mut found = Vec::new();
            for layout in &networks {
                let rules = rules(layout, &plan, None).unwrap();
                found.extend(
                    layout.segments().iter().zip(rules).map(|(segment, rule)| (&segment.name[..], rule.decays)),
                );
            }
            for name in left_alone.iter().chain(scales) {
                assert!(found.contains(&(*name, false)), "{name}");
            }
            found.retain(|(_, decays)| *decays);
            let expected: std::collections::HashSet<_> = decayed.iter().map(|name| (*name, true)).collect();
            assert_eq!(found.into_iter().collect::<std::collections::HashSet<_>>(), expected);
        }
    }
}
