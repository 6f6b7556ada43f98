//! Which parameters decay, and how fast each layer learns. Both are decided by name.

use thiserror::Error;

use super::{Layout, Segment};

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

/// A name that does not fit the network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GroupError {
    /// The name points at a stage or block that the depths do not have.
    #[error("`{name}` is not a part of a network with {depths:?} blocks; was the layout made from another variant?")]
    NoSuchLayer {
        /// The parameter.
        name: String,
        /// Blocks of each stage.
        depths: Vec<usize>,
    },
}

/// The rule of every tensor of `layout`, in its order.
///
/// `depths` are the blocks of each stage of the encoder. Without `decay`, every learning rate is scaled by 1.
///
/// # Errors
/// [`GroupError`] when a name points at a layer that `depths` does not have.
pub fn rules(layout: &Layout, depths: &[usize], decay: Option<LayerDecay>) -> Result<Vec<Rule>, GroupError> {
    layout.segments().iter().map(|segment| rule(segment, depths, decay)).collect()
}

fn rule(segment: &Segment, depths: &[usize], decay: Option<LayerDecay>) -> Result<Rule, GroupError> {
    let lr_scale = match decay {
        None => 1.0,
        Some(LayerDecay { rate, mode }) => {
            let below = last_layer_id(depths, mode) - layer_id(&segment.name, depths, mode)?;
            rate.powi(below as i32)
        }
    };
    Ok(Rule { range: segment.range.clone(), decays: decays(segment), lr_scale })
}

/// Whether weight decay acts on a parameter: on the weights of convolutions and linear layers, and on nothing else.
///
/// Biases, normalisation weights, GRN's gamma and beta, LayerScale's gamma and the mask token are left alone, whatever
/// their shape. A name that this crate does not know decays unless it has at most one dimension.
pub fn decays(segment: &Segment) -> bool {
    let mut parts = segment.name.rsplit('.');
    let (last, parent) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    match (parent, last) {
        (_, "bias" | "gamma" | "beta" | "mask_token") | ("norm", _) => false,
        ("conv" | "dwconv" | "pwconv1" | "pwconv2" | "linear" | "projection" | "prediction", "weight") => true,
        _ => segment.shape.len() > 1,
    }
}

/// The id of the head, and of everything that is not in the encoder: one more than the last block's.
pub fn last_layer_id(depths: &[usize], mode: LayerDecayMode) -> usize {
    ids_before(depths, mode) + 1
}

/// The layer id of the parameter `name` in a network of `depths` blocks a stage.
///
/// # Errors
/// [`GroupError`] when the name points at a stage or block that `depths` does not have.
pub fn layer_id(name: &str, depths: &[usize], mode: LayerDecayMode) -> Result<usize, GroupError> {
    let Some(inner) = name.strip_prefix("encoder.") else {
        return Ok(last_layer_id(depths, mode));
    };
    let parts: Vec<&str> = inner.split('.').collect();
    let id = match parts[..] {
        ["stem", ..] => Some(stem_id(mode)),
        ["stages", stage, "downsample", ..] => stage.parse().ok().and_then(|stage| block_id(stage, 0, depths, mode)),
        ["stages", stage, "blocks", block, ..] => {
            stage.parse().ok().zip(block.parse().ok()).and_then(|(stage, block)| block_id(stage, block, depths, mode))
        }
        _ => Some(last_layer_id(depths, mode)),
    };
    id.ok_or_else(|| GroupError::NoSuchLayer { name: name.into(), depths: depths.into() })
}

/// In the official code the stem is the first of four downsamples: "single" gives it its stage's first id, "group" 0.
fn stem_id(mode: LayerDecayMode) -> usize {
    match mode {
        LayerDecayMode::Single => 1,
        LayerDecayMode::Group => 0,
    }
}

fn block_id(stage: usize, block: usize, depths: &[usize], mode: LayerDecayMode) -> Option<usize> {
    if block >= *depths.get(stage)? {
        return None;
    }
    let within = match mode {
        LayerDecayMode::Single => block,
        LayerDecayMode::Group => block / GROUP,
    };
    Some(ids_before(&depths[..stage], mode) + within + 1)
}

/// Ids that the blocks of these stages take.
fn ids_before(depths: &[usize], mode: LayerDecayMode) -> usize {
    match mode {
        LayerDecayMode::Single => depths.iter().sum(),
        LayerDecayMode::Group => depths.iter().map(|depth| depth.div_ceil(GROUP)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::{LayerDecayMode::*, *};

    const ATTO: [usize; 4] = [2, 2, 6, 2];
    const BASE: [usize; 4] = [3, 3, 27, 3];

    fn ids(mode: LayerDecayMode, depths: &[usize]) -> Vec<(String, usize)> {
        let stages = depths.iter().enumerate().flat_map(|(stage, &depth)| {
            let downsample = (stage > 0).then(|| format!("encoder.stages.{stage}.downsample.conv.weight"));
            let blocks = (0..depth).map(move |block| format!("encoder.stages.{stage}.blocks.{block}.pwconv1.weight"));
            downsample.into_iter().chain(blocks)
        });
        let names =
            ["encoder.stem.conv.weight".to_owned()].into_iter().chain(stages).chain(["head.norm.weight".into()]);
        names.map(|name| (name.clone(), layer_id(&name, depths, mode).unwrap())).collect()
    }

    fn numbers(mode: LayerDecayMode, depths: &[usize]) -> Vec<usize> {
        ids(mode, depths).into_iter().map(|(_, id)| id).collect()
    }

    // The tables list: stem; blocks of stage 0; then for each stage its downsample and its blocks; head.
    // They are the official rule worked out by hand: get_num_layer_for_convnext{_single,} in ConvNeXt-V2's optim_factory.

    #[test]
    fn atto_single() {
        let table = [1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 8, 9, 10, 11, 11, 12, 13];
        assert_eq!(numbers(Single, &ATTO), table);
        assert_eq!(last_layer_id(&ATTO, Single), 13);
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
        assert_eq!(last_layer_id(&BASE, Group), 13);
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
                assert_eq!(*ids.last().unwrap(), last_layer_id(depths, mode));
            }
        }
    }

    #[test]
    fn pre_training_parts_learn_at_the_full_rate() {
        for name in ["densify.mask_token", "decoder.0.pwconv1.weight", "prediction.bias", "head.linear.weight"] {
            assert_eq!(layer_id(name, &ATTO, Single).unwrap(), 13);
        }
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
            for (rule, expected) in rules(&layout, &ATTO, decay).unwrap().iter().zip(expected) {
                assert!((rule.lr_scale - expected).abs() < 1e-12, "{rule:?}");
            }
        };
        check(Some(LayerDecay::single(0.9)), [0.282_429_536_481, 0.729, 1.0]);
        check(Some(LayerDecay::group(0.5)), [0.015_625, 0.25, 1.0]);
        check(None, [1.0; 3]);
    }

    #[test]
    fn a_layer_of_another_network_is_refused() {
        for name in ["encoder.stages.4.blocks.0.norm.weight", "encoder.stages.0.blocks.2.norm.weight"] {
            assert!(matches!(layer_id(name, &ATTO, Single), Err(GroupError::NoSuchLayer { .. })), "{name}");
        }
    }

    #[test]
    fn decay_is_decided_by_name() {
        let block = "encoder.stages.1.blocks.0";
        let decayed = [
            "encoder.stem.conv.weight",
            "encoder.stages.1.downsample.conv.weight",
            &format!("{block}.dwconv.weight"),
            &format!("{block}.pwconv1.weight"),
            &format!("{block}.pwconv2.weight"),
            "decoder.0.dwconv.weight",
            "densify.projection.weight",
            "prediction.weight",
            "head.linear.weight",
        ];
        let left_alone = [
            "encoder.stem.conv.bias",
            "encoder.stem.norm.weight",
            "encoder.stem.norm.bias",
            "encoder.stages.1.downsample.norm.weight",
            "encoder.stages.1.downsample.conv.bias",
            &format!("{block}.dwconv.bias"),
            &format!("{block}.norm.weight"),
            &format!("{block}.norm.bias"),
            &format!("{block}.grn.gamma"),
            &format!("{block}.grn.beta"),
            &format!("{block}.layer_scale.gamma"),
            "densify.projection.bias",
            "densify.mask_token",
            "prediction.bias",
            "head.norm.weight",
            "head.linear.bias",
        ];
        // Shapes that would mislead a rule by shape.
        for (names, shape, expected) in [(&decayed[..], vec![8], true), (&left_alone[..], vec![1, 1, 1, 8], false)] {
            for name in names {
                let segment = Segment { name: (*name).into(), shape: shape.clone(), range: 0..8 };
                assert_eq!(decays(&segment), expected, "{name}");
            }
        }
    }

    #[test]
    fn unknown_names_go_by_shape() {
        let unknown = |shape: Vec<usize>| decays(&Segment { name: "extra.kernel".into(), shape, range: 0..0 });
        assert!(unknown(vec![2, 2]));
        assert!(!unknown(vec![2]));
    }
}
