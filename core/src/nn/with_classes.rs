//! A classifier of a declared variant that tells another number of classes apart than the variant declares.

use dfdx::prelude::*;

use super::{
    head::SizedHead,
    model::{ClassifierModule, Flat},
    part::{Part, Parts},
    tensor::Error,
};
use crate::{network::names::HEAD, optim::Layout, plan::Plan};

/// A declared classifier's encoder, and a head whose number of classes is known when the program runs. The declared head is
/// not used.
pub(crate) struct WithClasses {
    declared: Box<dyn ClassifierModule>,
    /// Parameters of the declared model before its head.
    encoder: usize,
    head: SizedHead,
}

impl WithClasses {
    /// Gives `declared`, a classifier of `plan` but for its number of classes, a head with those of `plan`.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn new(declared: Box<dyn ClassifierModule>, plan: &Plan, device: &Cpu) -> Result<Self, Error> {
        let head = SizedHead::new(plan, device)?;
        let encoder = encoder(&declared.layout()).map(|segment| segment.1.iter().product::<usize>()).sum();
        Ok(Self { declared, encoder, head })
    }

    /// Parameters of the declared model's head.
    fn unused(&self) -> usize {
        self.declared.layout().len() - self.encoder
    }
}

/// Names and shapes of what stands before the head.
fn encoder(layout: &Layout) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
    let before = layout.segments().iter().take_while(|segment| !is_of_head(&segment.name));
    before.map(|segment| (segment.name.clone(), segment.shape.clone()))
}

fn is_of_head(name: &str) -> bool {
    name.strip_prefix(HEAD).is_some_and(|rest| rest.starts_with('.'))
}

impl Flat for WithClasses {
    fn layout(&self) -> Layout {
        let declared = self.declared.layout();
        let head = self.head.parameters().map(|(name, tensor)| (format!("{HEAD}.{name}"), tensor.dimensions()));
        Layout::new(encoder(&declared).chain(head)).expect("a model names each of its tensors once")
    }

    fn read(&self, buffer: &mut [f32]) {
        buffer.copy_from_slice(&self.values());
    }

    fn values(&self) -> Vec<f32> {
        let mut values = self.declared.values();
        values.truncate(self.encoder);
        for (_, tensor) in self.head.parameters() {
            let start = values.len();
            values.resize(start + tensor.length(), 0.0);
            tensor.read(&mut values[start..]);
        }
        values
    }

    fn write(&mut self, buffer: &[f32]) {
        let (encoder, mut head) = buffer.split_at(self.encoder);
        let declared = [encoder, &vec![0.0; self.unused()]].concat();
        self.declared.write(&declared);
        for tensor in self.head.parameters_mut() {
            let (values, rest) = head.split_at(tensor.length());
            tensor.write(values);
            head = rest;
        }
    }

    fn take_gradients(&self, gradients: &mut Gradients<f32, Cpu>) -> Result<Vec<Vec<f32>>, Error> {
        let head = self.head.parameters().map(|(_, tensor)| tensor.take_gradient(gradients));
        let head = head.into_iter().collect::<Result<Vec<_>, _>>()?;
        // What the declared model does not know is dropped, so that it comes last.
        let mut taken = self.declared.take_gradients(gradients)?;
        taken.truncate(encoder(&self.declared.layout()).count());
        taken.extend(head);
        Ok(taken)
    }

    fn put_gradients(&self, gradients: &mut Gradients<f32, Cpu>, flat: &[f32]) -> Result<(), Error> {
        let (encoder, mut head) = flat.split_at(self.encoder);
        self.declared.put_gradients(gradients, &[encoder, &vec![0.0; self.unused()]].concat())?;
        for (_, tensor) in self.head.parameters() {
            let (values, rest) = head.split_at(tensor.length());
            tensor.put_gradient(gradients, values.to_vec())?;
            head = rest;
        }
        Ok(())
    }
}

impl Parts for WithClasses {
    fn parts(&self) -> Vec<&dyn Part> {
        let mut parts = self.declared.parts();
        parts.pop();
        parts.push(&self.head);
        parts
    }

    fn parts_mut(&mut self) -> Vec<&mut dyn Part> {
        let mut parts = self.declared.parts_mut();
        parts.pop();
        parts.push(&mut self.head);
        parts
    }
}

impl ClassifierModule for WithClasses {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Variant, convnext};

    convnext! {
        pub model Nine { input: 16 x 16 x 1, stem: 2, head: 9, stages: [8 x 1 kernel 3, 16 x 1 kernel 3] }
        pub model Five { input: 16 x 16 x 1, stem: 2, head: 5, stages: [8 x 1 kernel 3, 16 x 1 kernel 3] }
    }

    fn images(samples: usize) -> Vec<f32> {
        (0..samples * 256).map(|i| (i as f32 * 0.37).sin()).collect()
    }

    /// A variant that declares nine classes and is given five, and one that declares five.
    fn pair() -> [Box<dyn ClassifierModule>; 2] {
        let cpu = Cpu::seed_from_u64(7);
        let mut given = Nine::entry().with_classes(5).classifier(&cpu).unwrap();
        let mut declared = Five::entry().classifier(&cpu).unwrap();
        let values = declared.values().into_iter().enumerate().map(|(i, value)| value + (i as f32).sin() / 50.0);
        let values: Vec<f32> = values.collect();
        given.write(&values);
        declared.write(&values);
        [given, declared]
    }

    #[test]
    fn a_given_number_of_classes_is_as_a_declared_one() {
        let [mut given, mut declared] = pair();
        assert_eq!(given.layout(), declared.layout());
        assert!(given.values() == declared.values());
        let (cpu, images) = (Cpu::default(), images(3));
        let logits = given.logits(&cpu, images.clone(), 3).unwrap();
        assert!(logits.len() == 15 && logits == declared.logits(&cpu, images.clone(), 3).unwrap());
        let targets: Vec<f32> = (0..15).map(|i| f32::from(u8::from(i % 5 == i / 5))).collect();
        let step = |model: &mut dyn ClassifierModule| {
            let leaky = Gradients::leaky();
            let (first, gradients) = model.step(&cpu, &images, targets.clone(), 3, leaky).unwrap();
            let (second, mut gradients) = model.step(&cpu, &images, targets.clone(), 3, gradients).unwrap();
            (first, second, model.take_gradients(&mut gradients).unwrap())
        };
        assert!(step(&mut *given) == step(&mut *declared), "gradients of two steps, added");
    }

    #[test]
    fn the_encoder_begins_as_with_the_declared_number() {
        let built = |entry: crate::Entry| entry.classifier(&Cpu::seed_from_u64(3)).unwrap();
        let (declared, given) = (built(Nine::entry()), built(Nine::entry().with_classes(4)));
        let layout = given.layout();
        let head = layout.get("head.norm.weight").unwrap().range.start;
        let (before, values) = (declared.values(), given.values());
        assert!(before[..head] == values[..head]);
        let linear = layout.view(&values, "head.linear.weight").unwrap();
        assert_eq!((linear.len(), Nine::entry().declared_classes()), (64, 9));
        assert!(linear.iter().all(|&value| value != 0.0 && value.abs() < 0.2));
        assert!(built(Nine::entry().with_classes(9)).values() == before);
    }
}
