//! What several tests need: a shard of small pictures.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use convnext_data::{
    PackError,
    pack::{self, Options, Source},
};

/// So many pictures of 4x4 pixels, each of one grey, of class 0 and 1 in turn.
struct Pictures(usize);

impl Source for Pictures {
    fn len(&self) -> usize {
        self.0
    }

    fn label(&self, index: usize) -> Option<u32> {
        Some((index % 2) as u32)
    }

    fn load(&self, index: usize, _: u64, bytes: &mut Vec<u8>) -> Result<(), PackError> {
        bytes.clear();
        bytes.extend_from_slice(b"P5\n4 4\n255\n");
        bytes.extend([index as u8; 16]);
        Ok(())
    }

    fn origin(&self, index: usize) -> PathBuf {
        PathBuf::from(index.to_string())
    }

    fn class_names(&self) -> Option<&[String]> {
        None
    }
}

/// Packs `count` pictures into a shard in `folder`, and returns its path.
pub(crate) fn shard(folder: &Path, options: &Options, count: usize) -> PathBuf {
    let packed = pack::pack(&Pictures(count), folder, options, &mut |_, _| ControlFlow::Continue(()));
    packed.unwrap().written.shards.remove(0)
}
