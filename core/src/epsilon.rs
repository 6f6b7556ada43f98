//! What is added where a quotient or a root could meet zero: the same on every device and in exported graphs.

/// Added to the variance in every layer normalisation.
pub const LAYER_NORM: f64 = 1e-6;

/// Added to the mean norm in global response normalisation.
pub const GRN: f64 = 1e-6;

/// Added to the variance of a patch's pixels when the target is normalised.
pub const TARGET: f64 = 1e-6;
