//! Images as they arrive - bytes - to what the stem reads: normalised, flipped, mixed.

use crate::launch::{
    element::Element,
    kernel::{Module, Source},
    schedule::{Argument::*, Lifetime, Schedule, ScheduleError, View, count},
    tile::{THREADS, flat_blocks},
};

/// The kernel.
pub static IMAGES: Source = Source { name: "images.cu", text: include_str!("images.cu"), kernels: &["prepare_images"] };

/// Sizes of a batch of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Samples `N`.
    pub samples: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

/// What is filled before a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bytes {
    /// u8 `[N, H, W, C]`.
    pub bytes: View,
    /// What each byte of a channel becomes: f32 `[C, 256]`. Filled once.
    pub table: View,
    /// u8 `[N]`: 1 mirrors a sample left to right.
    pub flips: View,
    /// f32 `[5]`: see [`mix`].
    pub mix: View,
}

/// What [`Bytes::mix`] holds: outside of the box `top..bottom` x `left..right`, a sample's share against that of its
/// partner `N - 1 - n`; inside, the two change places. `mix(1.0, [0; 4])` mixes nothing.
pub fn mix(share: f32, [top, bottom, left, right]: [usize; 4]) -> [f32; 5] {
    [share, top as f32, bottom as f32, left as f32, right as f32]
}

impl Shape {
    fn values(&self) -> usize {
        self.samples * self.height * self.width * self.channels
    }

    fn module(&self) -> Module {
        Module::new(&IMAGES, Element::F32)
            .with("HEIGHT", self.height)
            .with("WIDTH", self.width)
            .with("IMAGE_CHANNELS", self.channels)
            .with("THREADS", THREADS)
    }
}

/// Fills `images [N, H, W, C]`, f32, from buffers that are new.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
pub fn prepare(schedule: &mut Schedule, shape: &Shape, images: View) -> Result<Bytes, ScheduleError> {
    assert_eq!(images.length, shape.values(), "length of the images");
    let bytes = Bytes {
        bytes: schedule.input("images.bytes", Element::U8, shape.values()),
        table: schedule.buffer("images.table", Element::F32, shape.channels * 256, Lifetime::Persistent),
        flips: schedule.input("images.flips", Element::U8, shape.samples),
        mix: schedule.input("images.mix", Element::F32, 5),
    };
    let arguments = [
        Read(bytes.bytes),
        Read(bytes.table),
        Read(bytes.flips),
        Read(bytes.mix),
        Write(images),
        Int(count("samples", shape.samples)?),
    ];
    schedule.launch(&shape.module(), "prepare_images", [flat_blocks(images.length), 1, 1], THREADS, arguments)?;
    Ok(bytes)
}
