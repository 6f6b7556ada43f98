//! Length, batch and learning rates: what the section of every task begins with.

/// Length, batch and learning rates of a training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Course {
    /// Passes over the training set.
    pub epochs: u64,
    /// Images of one forward and backward pass, on each machine.
    pub batch: u64,
    /// Batches whose gradients make one step.
    pub accumulation: u64,
    /// Learning rate for 256 images a step.
    pub base_lr: f64,
    /// Epochs of linear warm-up.
    pub warmup_epochs: f64,
    /// Learning rate that the warm-up starts from; absolute.
    pub warmup_lr: f64,
    /// Learning rate that the cosine ends at; absolute.
    pub min_lr: f64,
}

/// Declares the section of a task: the settings of a [`Course`], then its own.
macro_rules! training_section {
    ($(#[$about:meta])* pub struct $name:ident { $($own:tt)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// Passes over the training set.
            #[schemars(range(min = 1, max = crate::settings::MOST_EPOCHS))]
            pub epochs: u64,
            /// Images of one forward and backward pass, on each machine.
            #[schemars(range(min = 1, max = crate::settings::MOST_IMAGES))]
            pub batch: u64,
            /// Batches whose gradients make one step.
            #[serde(default = "crate::settings::Course::one_batch")]
            #[schemars(range(min = 1, max = crate::settings::MOST_IMAGES))]
            pub accumulation: u64,
            /// Learning rate for 256 images a step.
            #[schemars(range(min = 1e-30, max = crate::settings::HIGHEST_BASE_RATE))]
            pub base_lr: f64,
            /// Epochs of linear warm-up; at most as many as there are.
            #[serde(default)]
            #[schemars(range(min = 0, max = crate::settings::MOST_EPOCHS))]
            pub warmup_epochs: f64,
            /// Learning rate that the warm-up starts from; absolute.
            #[serde(default)]
            #[schemars(range(min = 0.0, max = crate::settings::HIGHEST_RATE))]
            pub warmup_lr: f64,
            /// Learning rate that the cosine ends at; absolute.
            #[serde(default)]
            #[schemars(range(min = 0.0, max = crate::settings::HIGHEST_RATE))]
            pub min_lr: f64,
            $($own)*
        }

        impl $name {
            /// Length, batch and learning rates.
            pub fn course(&self) -> crate::settings::Course {
                let Self { epochs, batch, accumulation, base_lr, warmup_epochs, warmup_lr, min_lr, .. } = *self;
                crate::settings::Course { epochs, batch, accumulation, base_lr, warmup_epochs, warmup_lr, min_lr }
            }
        }
    };
}

pub(crate) use training_section;

impl Course {
    /// Batches of a step, if nothing is said.
    pub(crate) fn one_batch() -> u64 {
        1
    }
}
