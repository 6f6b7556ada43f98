//! Lesson 5: shards, written and read.
//!
//! `cargo run --release -p convnext-examples --bin 05-shards`
//!
//! A set of shards is a few tars as WebDataset has them, `00000.jpg` beside `00000.cls`, each with an index (`.idx`) that says
//! where its samples lie. Both are mapped into memory: to open ten million samples takes as long as ten.

use std::error::Error;

use convnext_data::{
    Augment, Chain, Channels, Decoder, Draw, Encoding, Example, Geometry, Image, Normalise, Scratch, ShardSet,
    ShardWriter,
    augment::{Flip, RandomResizedCrop},
    encode,
    shard::Limits,
};
use convnext_examples::{CLASSES, SIDE, picture};

fn main() -> Result<(), Box<dyn Error>> {
    // Written: a shard is full at 40 samples. `convnext pack` does this from folders of images.
    let folder = tempfile::tempdir()?;
    let mut writer = ShardWriter::create(folder.path(), "stripes", Limits { samples: 40, ..Limits::default() })?;
    writer.name_classes(&CLASSES.map(String::from))?;
    for sample in 0..100 {
        let (pixels, class) = picture(sample);
        let image = Image::from_pixels(SIDE, SIDE, 1, pixels).ok_or("a picture of another size")?;
        let mut png = Vec::new();
        encode::png(image.view(), &mut png)?;
        writer.append(&format!("{sample:05}"), Encoding::Png, &png, Some(class as u32))?;
    }
    let written = writer.finish()?;
    for shard in &written.shards {
        println!("{}", shard.file_name().unwrap_or_default().display());
    }

    // Read: a set is one list of samples, whatever tar they are in.
    let shards = ShardSet::open(&written.shards)?;
    println!("{} samples of {:?}", shards.len(), shards.class_names().unwrap_or_default());
    let sample = shards.sample(87)?;
    println!("sample 87: key {}, label {:?}, {} bytes", sample.key(), sample.label(), sample.size());

    // Decoded, augmented, normalised. A chain is checked before it runs, and draws what is random from (seed, epoch, sample)
    // alone: the same sample looks the same tomorrow, in another thread, and after an interruption.
    let steps: Vec<Box<dyn Augment>> = vec![Box::new(RandomResizedCrop::new(SIDE, SIDE)), Box::new(Flip::default())];
    let chain = Chain::new(steps, Geometry::decoded(1))?;
    let normalise = Normalise::new(&[0.5], &[0.25])?;
    let mut decoder = Decoder::new(Channels::Grey);
    let (mut bytes, mut example, mut scratch) = (Vec::new(), Example::default(), Scratch::default());
    for epoch in [0, 1, 0] {
        sample.decode_into(&mut decoder, &mut bytes, &mut example.image)?;
        chain.apply(&mut example, &Draw { seed: 7, epoch, sample: 87 }, &mut scratch)?;
        let mut values = vec![0.0; SIDE * SIDE];
        normalise.run(example.image.view(), &mut values)?;
        println!("in epoch {epoch} it begins with {:.3?}", &values[..4]);
    }
    Ok(())
}
