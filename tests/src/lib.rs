//! Tests that need more than one crate, and what they share: pictures with labels, shards of them, runs of a program.

pub mod variants;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use convnext_data::{
    PackError, Purpose, Random,
    pack::{self, Options, Source},
};

/// Pictures of 16x16 grey pixels in four classes that differ in where they are bright.
#[derive(Debug)]
pub struct Pictures {
    /// How many.
    pub count: usize,
    /// Decides all of them.
    pub seed: u64,
}

impl Source for Pictures {
    fn len(&self) -> usize {
        self.count
    }

    fn label(&self, index: usize) -> Option<u32> {
        Some((index % 4) as u32)
    }

    fn load(&self, index: usize, _: u64, bytes: &mut Vec<u8>) -> Result<(), PackError> {
        let mut random = Random::new(self.seed, 0, index as u64, Purpose::Augment);
        bytes.clear();
        bytes.extend_from_slice(b"P5\n16 16\n255\n");
        for at in 0..256 {
            let corner = (at / 16 / 8) * 2 + at % 16 / 8;
            let bright = if corner == index % 4 { 180 } else { 40 };
            bytes.push((bright + random.range(60)) as u8);
        }
        Ok(())
    }

    fn origin(&self, index: usize) -> PathBuf {
        PathBuf::from(index.to_string())
    }

    fn class_names(&self) -> Option<&[String]> {
        None
    }
}

/// Packs `count` pictures to `folder/name-000000.tar` and returns its path.
///
/// # Panics
/// When it cannot: this is for tests.
pub fn shard(folder: &Path, name: &str, count: usize, seed: u64) -> PathBuf {
    let options = Options { name: name.to_owned(), ..Options::default() };
    let packed = pack::pack(&Pictures { count, seed }, folder, &options, &mut |_, _| ControlFlow::Continue(()));
    packed.expect("pictures can be packed").written.shards.remove(0)
}

/// A recipe for the variant `dot`, written to `folder`.
///
/// # Panics
/// When it cannot be written.
pub fn recipe(folder: &Path, kind: &str) -> PathBuf {
    let settings = match kind {
        "pretrain" => "[pretrain]\nepochs = 2\nbatch = 8\nbase_lr = 0.02\nwarmup_epochs = 0.5\n",
        _ => {
            "[finetune]\nepochs = 2\nbatch = 8\naccumulation = 2\nbase_lr = 0.02\nstart = \"scratch\"\nsmoothing = 0.1\n\
             mixup = 0.2\ncutmix = 0.5\ndrop_path = 0.2\nema = { decay = 0.9 }\n[optimizer]\nclip = 1.0\n"
        }
    };
    let path = folder.join(format!("{kind}.toml"));
    let text = format!(
        "seed = 3\n[model]\nname = \"dot\"\n{settings}\n[augment]\npad = 2\nflip = true\n[checkpoint]\nevery_steps = 3\n"
    );
    std::fs::write(&path, text).expect("a recipe can be written");
    path
}

/// The command line with this package's own variants.
pub fn program(binary: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command.args(arguments);
    command
}

/// What a finished program said, both streams.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The code of the guide, compiled.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../docs/declaring.md")]
    struct Declaring;

    #[doc = include_str!("../../docs/modules.md")]
    struct Modules;
}
