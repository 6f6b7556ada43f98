//! Images in memory, and resampling them with SIMD.
//!
//! A crate of its own, so that what the resampler's generics expand to, nearly half of what `convnext-data` would compile, is
//! compiled once for programs and tests.

mod image;
mod resample;

pub use image::{Excerpt, Image, ImageView};
pub use resample::{Filter, Resample, ResampleError, Window};
