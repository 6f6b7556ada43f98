//! How long, and with what batches, so many images are trained on.

/// Length and batch of both runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Course {
    /// Epochs of pre-training.
    pub(super) pretrain: u64,
    /// Epochs of fine-tuning.
    pub(super) finetune: u64,
    /// Images of a step.
    pub(super) batch: u64,
}

impl Course {
    /// For `images` to train on: small sets are seen more often.
    pub(super) fn of(images: u64) -> Self {
        let images = images.max(1);
        let epochs = |seen: u64, least: u64, most: u64| (seen / images).clamp(least, most);
        // A power of two, so that an epoch has eight steps or more where the set allows.
        let batch = (images / 8).max(1);
        let batch = (1 << batch.ilog2()).clamp(1, 64);
        Self { pretrain: epochs(40_000, 20, 150), finetune: epochs(30_000, 20, 100), batch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_fits_into_the_set() {
        for images in [1, 2, 7, 40, 300, 5_000, 1_000_000] {
            let course = Course::of(images);
            assert!(course.batch <= images && course.pretrain >= 20 && course.finetune >= 20, "{images}: {course:?}");
        }
        assert_eq!(Course::of(240), Course { pretrain: 150, finetune: 100, batch: 16 });
    }
}
