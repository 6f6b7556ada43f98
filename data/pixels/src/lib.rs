//! Images in memory, resampling them with SIMD, and encoding them as JPEGs.
//!
//! A crate of its own, so that what the generics of the resampler and the encoder expand to, more than half of what
//! `convnext-data` would compile, is compiled once for programs and tests.

mod image;
mod jpeg;
mod resample;

pub use image::{Excerpt, Image, ImageView};
pub use jpeg::{Jpeg, JpegError};
pub use resample::{Filter, Resample, ResampleError, Window};
