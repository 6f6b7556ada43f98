//! What a file of weights says about their use: how an image becomes the model's input, and what its outputs are called.
//!
//! It stands as JSON in the metadata of every safetensors file that is written here, under the key `convnext`, so that
//! weights keep their meaning wherever they are copied. Other programs pass it over.

use serde::{Deserialize, Serialize};

/// How a trained model is to be used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// The variant's name.
    pub model: String,
    /// Rows of the input.
    pub height: usize,
    /// Pixels in a row of the input.
    pub width: usize,
    /// Channels of the input.
    pub channels: usize,
    /// Mean of each channel, pixels running from 0 to 1.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, pixels running from 0 to 1.
    pub std: Vec<f32>,
    /// How an image of any size becomes one of the input's.
    pub view: View,
    /// Names of the classes, class 0 first; empty where they have none, or the model has no classes.
    #[serde(default)]
    pub classes: Vec<String>,
}

/// How an image of any size becomes one of the input's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// Shrunk so that the input is this share of it on its tighter side, then its centre; 1 warps the whole image.
    Cropped(f64),
    /// In the middle of the input, black around it, not resampled; shrunk first if it is larger: for models that were
    /// trained so.
    Padded,
}

/// The metadata's key.
pub(super) const KEY: &str = "convnext";

impl Usage {
    /// As the metadata has it.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain numbers and names are JSON")
    }

    /// What the metadata says; `None` where it says nothing that this program understands.
    pub(super) fn of_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}
