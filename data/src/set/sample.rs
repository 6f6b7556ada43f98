//! A sample of a set, wherever it lies.

use std::fmt;

use super::error::SetError;
use super::folder::File;
use crate::decode::{Decoder, Wanted};
use crate::image::Image;
use crate::shard::{self, Encoding, ShardError};
use crate::target::{Example, Target, TargetKind};

/// A sample of a set.
#[derive(Clone, Copy, Debug)]
pub enum Sample<'a> {
    /// In a shard.
    Packed(shard::Sample<'a>),
    /// A file of a folder.
    File(File<'a>),
}

impl<'a> Sample<'a> {
    /// Its number in its shard or folder, from 0.
    pub fn number(&self) -> u64 {
        match self {
            Self::Packed(sample) => sample.number(),
            Self::File(file) => file.number(),
        }
    }

    /// Its class, where it has one.
    pub fn label(&self) -> Option<u32> {
        match self {
            Self::Packed(sample) => sample.label(),
            Self::File(file) => file.label(),
        }
    }

    /// Its class; an error that names it where it has none, and one that says why where nobody knows what it means.
    ///
    /// # Errors
    /// That.
    pub fn require_label(&self) -> Result<u32, SetError> {
        match self {
            Self::Packed(sample) => Ok(sample.require_label()?),
            Self::File(file) => Ok(file.require_label()?),
        }
    }

    /// Its encoding, by its name; `None` where a file's name and first bytes do not tell.
    pub fn encoding(&self) -> Option<Encoding> {
        match self {
            Self::Packed(sample) => Some(sample.encoding()),
            Self::File(file) => file.encoding(),
        }
    }

    /// Bytes of the image.
    pub fn size(&self) -> u64 {
        match self {
            Self::Packed(sample) => sample.size(),
            Self::File(file) => file.size(),
        }
    }

    /// What tells it apart from another of its size without reading it: the checksum of its bytes when a shard was indexed; of
    /// a file, the CRC-32 of its path below the folder.
    pub fn identity(&self) -> u32 {
        match self {
            Self::Packed(sample) => sample.checksum(),
            Self::File(file) => crc32fast::hash(file.name().as_bytes()),
        }
    }

    /// CRC-32 of the bytes of its targets, as they were when the shard was indexed; a label has none.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn target_checksums(&self) -> Result<impl Iterator<Item = u32>, ShardError> {
        let checksums = match self {
            Self::Packed(sample) => Some(sample.target_checksums()?),
            Self::File(_) => None,
        };
        Ok(checksums.into_iter().flatten())
    }

    /// Its name: in the tar, or its path below the folder.
    pub fn name(&self) -> String {
        match self {
            Self::Packed(sample) => sample.name(),
            Self::File(file) => file.name(),
        }
    }

    /// What it is called: its name in a tar without extension, or its path below the folder.
    pub fn key(&self) -> String {
        match self {
            Self::Packed(sample) => sample.key(),
            Self::File(file) => file.name(),
        }
    }

    /// Says that its bytes will be wanted soon: the system may begin to read those of a shard that is mapped.
    pub fn expect(&self) {
        match self {
            Self::Packed(sample) => sample.expect(),
            Self::File(_) => {}
        }
    }

    /// Its bytes; `scratch` may hold them.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn bytes<'b>(&self, scratch: &'b mut Vec<u8>) -> Result<&'b [u8], SetError>
    where
        'a: 'b,
    {
        match self {
            Self::Packed(sample) => Ok(sample.bytes(scratch)?),
            Self::File(file) => Ok(file.bytes(scratch)?),
        }
    }

    /// Its bytes, after holding them to what is known of them: their checksum, or a file's length.
    ///
    /// # Errors
    /// They cannot be read, or changed.
    pub fn verified<'b>(&self, scratch: &'b mut Vec<u8>) -> Result<&'b [u8], SetError>
    where
        'a: 'b,
    {
        match self {
            Self::Packed(sample) => Ok(sample.verified(scratch)?),
            Self::File(file) => Ok(file.bytes(scratch)?),
        }
    }

    /// Reads and decodes its picture into `image`; errors name the sample. `scratch` holds the encoded bytes on the way.
    ///
    /// # Errors
    /// It cannot be read or decoded, or its bytes changed.
    pub fn decode_into(&self, decoder: &mut Decoder, scratch: &mut Vec<u8>, image: &mut Image) -> Result<(), SetError> {
        match self {
            Self::Packed(sample) => Ok(sample.decode_into(decoder, scratch, image)?),
            Self::File(file) => Ok(file.decode_into(decoder, scratch, image)?),
        }
    }

    /// Reads and decodes the picture and its target of `kind` into `example`; errors name the sample.
    ///
    /// # Errors
    /// It has no target of this kind, cannot be read or decoded, or its bytes changed.
    pub fn example_into(
        &self,
        kind: TargetKind,
        decoder: &mut Decoder,
        scratch: &mut Vec<u8>,
        example: &mut Example,
    ) -> Result<(), SetError> {
        match self {
            Self::Packed(sample) => Ok(sample.example_into(kind, decoder, scratch, example)?),
            Self::File(file) => Ok(file.example_into(kind, decoder, scratch, example)?),
        }
    }

    /// A copy of its bytes, held to what is known of them, for a decoder with such a limit.
    ///
    /// # Errors
    /// They cannot be read, changed, or are more than an image of so many pixels may have.
    pub fn copy_into(&self, max_pixels: usize, copy: &mut Vec<u8>) -> Result<(), SetError> {
        match self {
            Self::Packed(sample) => Ok(sample.copy_into(copy)?),
            Self::File(file) => file.read(max_pixels, copy),
        }
    }

    /// Reads its target of `kind`.
    ///
    /// # Errors
    /// It has none of this kind, or it cannot be read or decoded.
    pub fn target_into(
        &self,
        kind: TargetKind,
        decoder: &mut Decoder,
        scratch: &mut Vec<u8>,
        target: &mut Target,
    ) -> Result<(), SetError> {
        match self {
            Self::Packed(sample) => Ok(sample.target_into(kind, decoder, scratch, target)?),
            Self::File(file) => file.target_into(kind, target),
        }
    }

    /// Decodes the picture, its bytes being `encoded`, or at least the part of it that is wanted
    /// ([`Decoder::decode_part_into`]) into `example`, which has the target already.
    ///
    /// # Errors
    /// It cannot be decoded, or its target is not for a picture of this size.
    pub fn picture_into(
        &self,
        encoded: &[u8],
        wanted: Wanted<'_>,
        decoder: &mut Decoder,
        example: &mut Example,
    ) -> Result<(), SetError> {
        match self {
            Self::Packed(sample) => Ok(sample.picture_into(encoded, wanted, decoder, example)?),
            Self::File(file) => file.picture_into(encoded, wanted, decoder, example),
        }
    }
}

impl fmt::Display for Sample<'_> {
    /// Where it lies.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packed(sample) => sample.fmt(f),
            Self::File(file) => file.fmt(f),
        }
    }
}
