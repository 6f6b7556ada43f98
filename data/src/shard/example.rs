//! A sample as it is used: its picture decoded, and the target of one kind beside it.

use super::index::{Extent, Targets};
use super::{IndexFault, Labels, Sample, Shard, ShardError, annotation, annotation::Read, read_error};
use crate::decode::{Decoder, Wanted};
use crate::image::{Excerpt, Image};
use crate::target::{Example, IGNORED, Target, TargetKind};

impl Sample<'_> {
    /// Verifies and decodes the picture and its target of `kind` into `example`; errors name the sample. `scratch` holds the
    /// encoded bytes of either on the way.
    ///
    /// # Errors
    /// It has no target of this kind, bytes changed since they were indexed, they cannot be decoded, or a segmentation is
    /// not as large as its picture.
    pub fn example_into(
        &self,
        kind: TargetKind,
        decoder: &mut Decoder,
        scratch: &mut Vec<u8>,
        example: &mut Example,
    ) -> Result<(), ShardError> {
        self.target_into(kind, decoder, scratch, &mut example.target)?;
        self.copy_into(scratch)?;
        self.picture_into(scratch, &|_, _| None, decoder, example)
    }

    /// Decodes the picture `encoded`, its own, or the part of it that is wanted into `example`, which has the target already.
    ///
    /// # Errors
    /// It cannot be decoded, or a segmentation is not as large.
    pub fn picture_into(
        &self,
        encoded: &[u8],
        wanted: Wanted<'_>,
        decoder: &mut Decoder,
        example: &mut Example,
    ) -> Result<(), ShardError> {
        let undecodable = |source| ShardError::Undecodable { sample: self.to_string(), source };
        example.excerpt = decoder.decode_part_into(encoded, wanted, &mut example.image).map_err(undecodable)?;
        let Target::Segmentation(map) = &example.target else { return Ok(()) };
        let Excerpt { height, width, .. } = example.placed();
        let (found, wanted) = ((map.height, map.width), (height, width));
        match found == wanted {
            true => Ok(()),
            false => Err(ShardError::SegmentationSize { sample: self.to_string(), found, wanted }),
        }
    }

    /// Whether it has a target of this kind.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn has(&self, kind: TargetKind) -> Result<bool, ShardError> {
        Ok(match kind {
            TargetKind::None => true,
            TargetKind::Class => self.label().is_some(),
            TargetKind::Segmentation => self.targets()?.segmentation.is_some(),
            TargetKind::Classes | TargetKind::Boxes => self.targets()?.annotation.is_some_and(|(has, _)| has == kind),
        })
    }

    /// CRC-32 of the bytes of its targets, as they were when the shard was indexed; a label has none.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn target_checksums(&self) -> Result<impl Iterator<Item = u32>, ShardError> {
        Ok(self.targets()?.members().map(|member| member.crc))
    }

    /// Holds the bytes of its targets to their checksums.
    pub(super) fn check_targets(&self, scratch: &mut Vec<u8>) -> Result<(), ShardError> {
        self.targets()?.members().try_for_each(|member| self.copy(member, scratch))
    }

    /// Where its targets lie.
    pub(super) fn targets(&self) -> Result<Targets, ShardError> {
        self.shard.targets(self.number)
    }

    /// Its target of `kind`; `scratch` holds the encoded bytes on the way.
    ///
    /// # Errors
    /// It has none of this kind, its bytes changed since they were indexed, or they cannot be decoded.
    pub fn target_into(
        &self,
        kind: TargetKind,
        decoder: &mut Decoder,
        scratch: &mut Vec<u8>,
        target: &mut Target,
    ) -> Result<(), ShardError> {
        if kind != TargetKind::None {
            self.shard.labels.check()?;
        }
        let missing = || ShardError::NoTarget { sample: self.to_string(), kind };
        match kind {
            TargetKind::None => *target = Target::None,
            TargetKind::Class => *target = Target::Class(self.require_label()?),
            TargetKind::Classes | TargetKind::Boxes => {
                let annotation = self.targets()?.annotation.filter(|(has, _)| *has == kind);
                self.copy(annotation.ok_or_else(missing)?.1, scratch)?;
                // What is not of this form was not indexed as such.
                let Read::Annotation(read) = annotation::read(scratch) else { return Err(missing()) };
                *target = self.relabelled(read)?;
            }
            TargetKind::Segmentation => {
                self.copy(self.targets()?.segmentation.ok_or_else(missing)?, scratch)?;
                if !matches!(target, Target::Segmentation(_)) {
                    *target = Target::Segmentation(Image::default());
                }
                if let Target::Segmentation(map) = target {
                    let undecodable = |source| ShardError::Undecodable { sample: self.to_string(), source };
                    decoder.decode_classes_into(scratch, map).map_err(undecodable)?;
                    self.relabel(map)?;
                }
            }
        }
        Ok(())
    }

    /// A verified copy of a member's bytes: a mapped file may be cut while they are used.
    fn copy(&self, member: Extent, copy: &mut Vec<u8>) -> Result<(), ShardError> {
        self.copy_member(member, copy)?;
        self.check(copy, member.crc)
    }

    /// An annotation with the classes that the set gives to those in the tar.
    fn relabelled(&self, mut annotation: Target) -> Result<Target, ShardError> {
        let (mut beyond, classes) = (None, self.shard.header.classes);
        annotation::each_class(&mut annotation, |class| {
            if *class >= classes {
                beyond = Some(*class);
            }
            *class = self.shard.labels.of(*class);
        });
        match beyond {
            None => Ok(annotation),
            Some(label) => Err(self.shard.index_fault(IndexFault::Label { sample: self.number, label, classes })),
        }
    }

    /// The same for the pixels of a segmentation.
    fn relabel(&self, map: &mut Image) -> Result<(), ShardError> {
        let Labels::Mapped(_) = &self.shard.labels else { return Ok(()) };
        for pixel in map.pixels.iter_mut().filter(|pixel| **pixel != IGNORED) {
            let class = self.shard.labels.of(u32::from(*pixel));
            *pixel = u8::try_from(class)
                .ok()
                .filter(|&class| class != IGNORED)
                .ok_or_else(|| ShardError::SegmentationClass { sample: self.to_string(), class })?;
        }
        Ok(())
    }
}

impl Shard {
    /// Fails where a sample has no target of this kind, naming the first.
    ///
    /// # Errors
    /// That, or the index is damaged.
    pub fn require_targets(&self, kind: TargetKind) -> Result<(), ShardError> {
        match kind {
            TargetKind::None => Ok(()),
            TargetKind::Class => self.require_labels(),
            _ => self.samples().try_for_each(|sample| {
                let sample = sample?;
                match sample.has(kind)? {
                    true => Ok(()),
                    false => Err(ShardError::NoTarget { sample: sample.to_string(), kind }),
                }
            }),
        }
    }

    fn targets(&self, number: u64) -> Result<Targets, ShardError> {
        let Some(at) = self.header.targets_at(number) else { return Ok(Targets::default()) };
        let bytes = self.records.array(at).map_err(|source| read_error(source, &self.records, &self.index))?;
        Targets::parse(&bytes, number, &self.header).map_err(|fault| self.index_fault(fault))
    }
}
