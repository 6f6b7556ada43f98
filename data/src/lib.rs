//! Bytes to pixels: shards, their index, folders of images, sample order, decoding and augmentation. Knows no tensor.
//!
//! ```text
//! pack -> Shard (tar + index, mapped) \
//!                            Folder  -> ShardSet -> Order -> Sample -> Decoder -> Augment -> Normalise -> [f32], [H, W, C]
//! ```
//!
//! Nothing here starts a thread that outlives a call (jpeg-decoder starts some), or keeps global state, but for the list of
//! maps that a handler of SIGBUS reads. Every random decision is a pure function of
//! `(seed, epoch, sample id, purpose)`, see [`random`].

// A message that cannot be printed must not end a program: `println!` and its like would panic.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod augment;
pub mod decode;
pub mod encode;
pub mod mask;
pub mod mixing;
pub mod order;
pub mod pack;
pub mod random;
pub mod set;
pub mod shard;
pub mod target;

mod error;

/// Images in memory.
pub use convnext_pixels as image;

pub use augment::{Augment, AugmentError, Chain, Geometry, Normalise, Scratch};
pub use decode::{Channels, DECODER, DecodeError, Decoder};
pub use error::Error;
pub use image::{Image, ImageView};
pub use mask::random_mask;
pub use mixing::{Mixing, Neighbours};
pub use order::Order;
pub use pack::PackError;
pub use random::{Draw, Purpose, Random};
pub use set::{Folder, Part, Sample, SetError, ShardSet};
pub use shard::{Access, ClassDifference, Encoding, Shard, ShardError, ShardWriter};
pub use target::{BoundingBox, Example, Target, TargetKind};
