//! Image files as a model's input.

use std::path::Path;

use convnext_core::nn::Entry;
use convnext_data::{Chain, Decoder, Draw, Example, Normalise, Scratch};
use convnext_weights::checkpoint::View;

use crate::{
    bounded,
    input::{Input, InputError},
    settings::Data,
    trainer::ModelError,
};

/// Image files as a model's input.
pub(crate) struct Loader {
    decoder: Decoder,
    chain: Chain,
    table: Normalise,
    example: Example,
    scratch: Scratch,
}

impl Loader {
    pub(crate) fn new(entry: &Entry, data: &Data, view: View) -> Result<Self, InputError> {
        let input = Input { plan: &entry.plan, data, workers: 1 };
        Ok(Self {
            decoder: input.decoder()?,
            chain: input.evaluation_chain(view)?,
            table: input.table()?,
            example: Example::default(),
            scratch: Scratch::default(),
        })
    }

    /// One image `[H, W, C]`, normalised.
    pub(crate) fn load(&mut self, path: &Path) -> Result<Vec<f32>, ModelError> {
        let bytes = bounded::read(path, bounded::PICTURE)
            .map_err(|source| ModelError::Read { path: path.to_owned(), source })?;
        self.decode(&bytes).map_err(|source| ModelError::Image { path: path.to_owned(), source: Box::new(source) })
    }

    /// One image `[H, W, C]` from encoded bytes, normalised.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<Vec<f32>, convnext_data::Error> {
        self.decoder.decode_into(bytes, &mut self.example.image)?;
        self.chain.apply(&mut self.example, &Draw { seed: 0, epoch: 0, sample: 0 }, &mut self.scratch)?;
        let image = self.example.image.view();
        let mut pixels = vec![0.0; image.pixels.len()];
        self.table.run(image, &mut pixels)?;
        Ok(pixels)
    }
}
