//! The optimiser, on flat buffers or tensor by tensor.
//!
//! Moments and the moving average lie in one `Vec<f32>` each, the tensors in a fixed order; a [`Layout`] says which range
//! is which. Parameters and gradients come as such buffers too. An update is one pass over memory, and its result the same
//! bits for any number of threads.
//!
//! ```
//! use convnext_core::{
//!     Variant, convnext,
//!     optim::{AdamW, LayerDecay, Layout, LearningRate, Optimizer, clip_scale, global_norm, rules},
//! };
//!
//! convnext! { pub model Own { input: 8 x 8 x 3, stem: 2, head: 12, stages: [4 x 1, 8 x 1] } }
//!
//! let layout = Layout::new(Own::PLAN.classifier().declared().map(|parameter| (parameter.name, parameter.shape)))?;
//! let mut parameters = vec![0.5; layout.len()];
//! let gradients = vec![0.1; layout.len()];
//!
//! let rules = rules(&layout, &Own::PLAN, Some(LayerDecay::single(0.9)))?;
//! let mut optimizer = Optimizer::new(AdamW::default(), rules, None, &parameters);
//! let schedule = LearningRate { start: 0.0, peak: 1e-3, end: 0.0, warmup: 10, total: 100 };
//!
//! let norm = global_norm(&[&gradients]);
//! assert!(norm.is_finite()); // what to do otherwise is the caller's choice
//! optimizer.step(&mut parameters, &gradients, schedule.lr(10), clip_scale(norm, 1.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adamw;
mod clip;
pub mod cuda;
mod ema;
mod groups;
mod layout;
mod learning_rate;
mod magnitude;

pub use adamw::{AdamW, Coefficients, Optimizer};
pub use clip::{NonFinite, clear, clip_scale, first_non_finite, global_norm};
pub use ema::Ema;
pub use groups::{GroupError, LayerDecay, LayerDecayMode, Rule, layer_ids, rules};
pub use layout::{Layout, LayoutError, Segment};
pub use learning_rate::LearningRate;

/// Elements that one task of a parallel pass works on. Fixed, so that results do not depend on the thread count.
const CHUNK: usize = 1 << 15;
