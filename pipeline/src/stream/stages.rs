//! The stages between a shard and a batch. Each says what it makes of its input before anything runs.

use std::{fmt::Debug, sync::Arc};

use convnext_data::{
    Decoder, Error, ShardSet, TargetKind,
    augment::{Chain, Flip, Normalise as Table},
    mask::random_mask,
    random::Purpose,
};

use super::{Form, Item, Mismatch, Workspace};

/// A stage: its settings, shared by all workers.
pub trait Stage: Debug + Send + Sync {
    /// What messages call it.
    fn name(&self) -> &'static str;

    /// The form it makes of `input`, or why it cannot.
    fn output(&self, input: Form) -> Result<Form, Mismatch>;

    /// One worker's copy, with buffers of its own.
    fn worker(&self) -> Box<dyn Work>;
}

/// One worker's copy of a stage.
pub trait Work {
    /// Takes the sample of `item` one stage further: what it is made of lies in `space`, what comes out in `item`.
    fn process(&mut self, shards: &ShardSet, space: &mut Workspace, item: &mut Item) -> Result<(), Error>;
}

/// Reads a sample's target and the bytes of its picture, and holds them to their checksums.
#[derive(Debug, Clone)]
pub struct Read {
    /// Decodes targets; its limit is that on pictures.
    pub decoder: Decoder,
    /// The target that is read; a sample without one is an error.
    pub target: TargetKind,
}

impl Stage for Read {
    fn name(&self) -> &'static str {
        "read"
    }

    fn output(&self, input: Form) -> Result<Form, Mismatch> {
        match input {
            Form::Stored => Ok(Form::Encoded),
            gets => Err(Mismatch { stage: self.name(), takes: Form::Stored.to_string(), gets }),
        }
    }

    fn worker(&self) -> Box<dyn Work> {
        Box::new(self.clone())
    }
}

impl Work for Read {
    fn process(&mut self, shards: &ShardSet, space: &mut Workspace, item: &mut Item) -> Result<(), Error> {
        let sample = shards.sample(item.draw.sample)?;
        let Workspace { encoded, example, .. } = space;
        sample.target_into(self.target, &mut self.decoder, encoded, &mut example.target)?;
        Ok(sample.copy_into(self.decoder.max_pixels(), encoded)?)
    }
}

/// Decodes a picture.
#[derive(Debug, Clone)]
pub struct Decode {
    /// Decodes, to the channels it is for.
    pub decoder: Decoder,
    /// What the pictures are for, if it is known: of a picture from which it will cut a part, only that has to be decoded.
    pub chain: Option<Arc<Chain>>,
}

impl Stage for Decode {
    fn name(&self) -> &'static str {
        "decode"
    }

    fn output(&self, input: Form) -> Result<Form, Mismatch> {
        match input {
            Form::Encoded => Ok(Form::Image { channels: self.decoder.channels().count() }),
            gets => Err(Mismatch { stage: self.name(), takes: Form::Encoded.to_string(), gets }),
        }
    }

    fn worker(&self) -> Box<dyn Work> {
        Box::new(self.clone())
    }
}

impl Work for Decode {
    fn process(&mut self, shards: &ShardSet, space: &mut Workspace, item: &mut Item) -> Result<(), Error> {
        let sample = shards.sample(item.draw.sample)?;
        let Workspace { encoded, example, .. } = space;
        let wanted = |height, width| self.chain.as_ref()?.looks_at(height, width, &item.draw);
        Ok(sample.picture_into(encoded, &wanted, &mut self.decoder, example)?)
    }
}

/// Augments.
#[derive(Debug, Clone)]
pub struct Augmented {
    /// The steps, made for decoded images of these channels.
    pub chain: Arc<Chain>,
    /// Channels that the chain takes.
    pub channels: usize,
    /// The last step of the chain, if it is left to who takes the bytes ([`Chain::split_flip`]): [`Normalise`], or a device.
    pub flip: Option<Flip>,
}

struct AugmentWork {
    chain: Arc<Chain>,
    flip: Option<Flip>,
}

impl Stage for Augmented {
    fn name(&self) -> &'static str {
        "augment"
    }

    fn output(&self, input: Form) -> Result<Form, Mismatch> {
        let takes = Form::Image { channels: self.channels };
        if input != takes {
            return Err(Mismatch { stage: self.name(), takes: takes.to_string(), gets: input });
        }
        let (height, width, channels) = self.chain.output();
        Ok(Form::Sized { height, width, channels })
    }

    fn worker(&self) -> Box<dyn Work> {
        Box::new(AugmentWork { chain: self.chain.clone(), flip: self.flip })
    }
}

impl Work for AugmentWork {
    fn process(&mut self, _: &ShardSet, space: &mut Workspace, item: &mut Item) -> Result<(), Error> {
        self.chain.apply(&mut space.example, &item.draw, &mut space.scratch)?;
        item.flip = self.flip.is_some_and(|flip| flip.leave_image(&mut space.example, &item.draw));
        Ok(())
    }
}

/// Bytes to floats of about mean 0 and variance 1, mirrored on the way where that is still to be done.
#[derive(Debug, Clone)]
pub struct Normalise {
    /// What each value of each channel becomes.
    pub table: Arc<Table>,
    /// Rows, columns and channels that the model takes.
    pub size: (usize, usize, usize),
}

struct NormaliseWork(Arc<Table>);

impl Stage for Normalise {
    fn name(&self) -> &'static str {
        "normalise"
    }

    fn output(&self, input: Form) -> Result<Form, Mismatch> {
        let (height, width, channels) = self.size;
        let takes = Form::Sized { height, width, channels };
        if input != takes || channels != self.table.channels() {
            return Err(Mismatch { stage: self.name(), takes: takes.to_string(), gets: input });
        }
        Ok(Form::Pixels { height, width, channels })
    }

    fn worker(&self) -> Box<dyn Work> {
        Box::new(NormaliseWork(self.table.clone()))
    }
}

impl Work for NormaliseWork {
    fn process(&mut self, _: &ShardSet, space: &mut Workspace, item: &mut Item) -> Result<(), Error> {
        let image = space.example.image.view();
        match std::mem::take(&mut item.flip) {
            true => self.0.run_mirrored(image, &mut item.pixels)?,
            false => self.0.run(image, &mut item.pixels)?,
        }
        Ok(())
    }
}

/// Draws the patches that are removed.
#[derive(Debug, Clone, Copy)]
pub struct Mask {
    /// Side of a patch, in pixels.
    pub patch: usize,
    /// Patches that stay visible.
    pub visible: usize,
}

impl Mask {
    fn patches(&self, height: usize, width: usize) -> usize {
        (height / self.patch) * (width / self.patch)
    }
}

impl Stage for Mask {
    fn name(&self) -> &'static str {
        "mask"
    }

    fn output(&self, input: Form) -> Result<Form, Mismatch> {
        match input {
            Form::Pixels { height, width, channels } | Form::Sized { height, width, channels }
                if height.is_multiple_of(self.patch)
                    && width.is_multiple_of(self.patch)
                    && (1..self.patches(height, width)).contains(&self.visible) =>
            {
                let (normalised, patches) = (input.normalised(), self.patches(height, width));
                Ok(Form::Masked { normalised, height, width, channels, patches })
            }
            gets => {
                let takes =
                    format!("images of one size that patches of {} divide into more than {}", self.patch, self.visible);
                Err(Mismatch { stage: self.name(), takes, gets })
            }
        }
    }

    fn worker(&self) -> Box<dyn Work> {
        Box::new(*self)
    }
}

impl Work for Mask {
    fn process(&mut self, _: &ShardSet, _: &mut Workspace, item: &mut Item) -> Result<(), Error> {
        random_mask(&mut item.draw.random(Purpose::Mask), self.visible, &mut item.mask);
        Ok(())
    }
}
