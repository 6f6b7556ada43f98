//! Another number of input channels: what becomes of the kernels that look at the image.
//!
//! As timm does it: to one channel, the kernels are summed over the old ones; to several, they are repeated in order and
//! scaled, so that an image whose channels are alike gives what it gave.

use convnext_core::optim::{Layout, Segment};

use super::{layouts::squeezed, translation::Translation};

/// Our name of the convolution that looks at the image, `[kernel, kernel, in, out]`, and which axis its channels are.
const STEM: &str = "encoder.stem.conv.weight";
const CHANNELS: usize = 2;

/// A flat buffer of `from` as one of `to`; they differ in the first convolution's input channels.
pub(super) fn adapt(from: &Layout, values: &[f32], to: &Layout) -> Vec<f32> {
    let mut adapted = vec![0.0; to.len()];
    for (from, to) in from.segments().iter().zip(to.segments()) {
        let (values, adapted) = (&values[from.range.clone()], &mut adapted[to.range.clone()]);
        if from.shape == to.shape { adapted.copy_from_slice(values) } else { kernels(from, values, to, adapted) }
    }
    adapted
}

/// Each position of the kernel by itself: `[in, out]`.
fn kernels(from: &Segment, values: &[f32], to: &Segment, adapted: &mut [f32]) {
    let (old, new, out) = (from.shape[CHANNELS], to.shape[CHANNELS], to.shape[CHANNELS + 1]);
    let scale = (old as f64 / new as f64) as f32;
    for (values, adapted) in values.chunks_exact(old * out).zip(adapted.chunks_exact_mut(new * out)) {
        if new == 1 {
            adapted.iter_mut().enumerate().for_each(|(o, sum)| *sum = values.iter().skip(o).step_by(out).sum());
            continue;
        }
        let repeated = values.chunks_exact(out).cycle().flatten();
        adapted.iter_mut().zip(repeated).for_each(|(adapted, value)| *adapted = value * scale);
    }
}

/// Input channels of the model, and of the file where they are others and nothing else of that convolution is.
pub(super) fn other_channels(translation: &Translation, found: &[usize]) -> Option<(usize, usize)> {
    let expected = translation.ours.get(STEM)?.shape[CHANNELS];
    let others = (1..=MOST).filter(|&channels| channels != expected);
    let fits = |&channels: &usize| {
        let shape = translation.shape_with(STEM, CHANNELS, channels);
        shape.is_some_and(|shape| squeezed(&shape).eq(squeezed(found)))
    };
    Some((expected, others.into_iter().find(fits)?))
}

/// Most channels that are looked for.
const MOST: usize = 64;

/// `layout`, looking at images of `channels`.
pub(super) fn with_channels(layout: &Layout, channels: usize) -> Layout {
    let tensors = layout.segments().iter().map(|Segment { name, shape, .. }| {
        let mut shape = shape.clone();
        if name == STEM {
            shape[CHANNELS] = channels;
        }
        (&name[..], shape)
    });
    Layout::new(tensors).expect("the names of a layout")
}

/// Their name of the convolution.
pub(super) fn stem_name(translation: &Translation) -> Option<&str> {
    let at = translation.ours.segments().iter().position(|segment| segment.name == STEM)?;
    Some(&translation.theirs.segments()[at].name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One position, channels `[c0, c1, c2]` of two outputs.
    fn adapted(from: usize, to: usize, values: &[f32]) -> Vec<f32> {
        let layout = |channels| Layout::new([(STEM, vec![1, 1, channels, 2])]).unwrap();
        adapt(&layout(from), values, &layout(to))
    }

    #[test]
    fn values_are_timms() {
        let rgb = [1.0, 10.0, 2.0, 20.0, 3.0, 30.0];
        assert_eq!(adapted(3, 1, &rgb), [6.0, 60.0]);
        // timm: repeated to 5, times 3 / 5.
        let five: Vec<f32> = [1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 1.0, 10.0, 2.0, 20.0].map(|x| x * (3.0f32 / 5.0)).into();
        assert_eq!(adapted(3, 5, &rgb), five);
        assert_eq!(adapted(3, 2, &rgb), [1.5, 15.0, 3.0, 30.0]);
        let third = 1.0f32 / 3.0;
        assert_eq!(adapted(1, 3, &[3.0, 6.0]), [3.0 * third, 6.0 * third].repeat(3));
        assert_eq!(adapted(2, 1, &[1.0, 2.0, 3.0, 4.0]), [4.0, 6.0]);
    }
}
