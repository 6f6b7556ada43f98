//! A variant as an item of a list: its plan, and how its models are built.

use dfdx::prelude::*;

use super::{
    model::{AutoencoderModule, ClassifierModule},
    tensor::Error,
    with_classes::WithClasses,
};
use crate::plan::Plan;

/// A declared variant.
pub trait Variant {
    /// What was declared about it.
    const PLAN: Plan;

    /// The variant as an item of the command line's list.
    fn entry() -> Entry;
}

/// Builds a model with fresh parameters.
type Build<M> = fn(&Cpu) -> Result<Box<M>, Error>;

/// A variant without its type: its plan and how to build it.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Every size, count and rate of the variant.
    pub plan: Plan,
    /// Classes of the head that [`classifier`](Self::classifier) builds as it is declared.
    declared: usize,
    classifier: Build<dyn ClassifierModule>,
    autoencoder: Option<Build<dyn AutoencoderModule>>,
}

impl Entry {
    /// A variant without a pre-training part.
    pub fn new<C>(plan: Plan) -> Self
    where
        C: BuildOnDevice<Cpu, f32>,
        C::Built: ClassifierModule + 'static,
    {
        let classifier: Build<dyn ClassifierModule> = |device| Ok(Box::new(C::try_build_on_device(device)?));
        Self { plan, declared: plan.classes, classifier, autoencoder: None }
    }

    /// A variant with a pre-training part.
    pub fn with_fcmae<C, A>(plan: Plan) -> Self
    where
        C: BuildOnDevice<Cpu, f32>,
        C::Built: ClassifierModule + 'static,
        A: BuildOnDevice<Cpu, f32>,
        A::Built: AutoencoderModule + 'static,
    {
        let autoencoder: Build<dyn AutoencoderModule> = |device| Ok(Box::new(A::try_build_on_device(device)?));
        Self { autoencoder: Some(autoencoder), ..Self::new::<C>(plan) }
    }

    /// The variant with another number of classes, at least 1: its plan says so, and so do the models it builds. Their typed
    /// head stays what it is declared.
    pub fn with_classes(self, classes: usize) -> Self {
        Self { plan: Plan { classes: classes.max(1), ..self.plan }, ..self }
    }

    /// Classes of the head as it is declared.
    pub fn declared_classes(&self) -> usize {
        self.declared
    }

    /// Builds the classifier with fresh parameters and the declared drop path.
    ///
    /// The encoder's parameters are the same for every number of classes.
    pub fn classifier(&self, device: &Cpu) -> Result<Box<dyn ClassifierModule>, Error> {
        let mut classifier = (self.classifier)(device)?;
        if self.plan.classes != self.declared {
            classifier = Box::new(WithClasses::new(classifier, &self.plan, device)?);
        }
        classifier.set_drop_path(self.plan.drop_path);
        Ok(classifier)
    }

    /// Builds the autoencoder with fresh parameters; `None` if the variant declares no pre-training part.
    pub fn autoencoder(&self, device: &Cpu) -> Result<Option<Box<dyn AutoencoderModule>>, Error> {
        self.autoencoder.map(|build| build(device)).transpose()
    }
}
