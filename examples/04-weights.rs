//! Lesson 4: weights of a run, or of another program.
//!
//! `cargo run --release -p convnext-examples --bin 04-weights [FILE, CHECKPOINT OR RUN]`

use std::{env, error::Error, path::PathBuf};

use convnext_core::{Variant, convnext, dfdx::prelude::*};
use convnext_weights::{
    checkpoint::{Which, read_header},
    convert::{Dialect, load, save},
};

convnext! {
    /// As wide as timm's Atto, and one block deep.
    model Own { input: 32 x 32 x 3, stem: 4, head: 10, stages: [40 x 1, 80 x 1] }
}

fn main() -> Result<(), Box<dyn Error>> {
    // An entry is a variant without its type: what is common to all of them is done with it, as the command line does.
    let entry = Own::entry();
    let mut model = entry.classifier(&Cpu::seed_from_u64(1))?;
    let layout = model.layout();

    // Without an argument: a file as timm would write it, of another model of this variant.
    let folder = tempfile::tempdir()?;
    let path = match env::args_os().nth(1) {
        Some(path) => PathBuf::from(path),
        None => {
            let other = entry.classifier(&Cpu::seed_from_u64(2))?;
            let path = folder.path().join("timm.safetensors");
            save(&path, &layout, &other.values(), Dialect::Timm, None)?;
            path
        }
    };

    // What is in the file, by its own names: the order of axes differs as well, `[out, in, height, width]` there.
    let header = read_header(&path, Which::default())?;
    println!("the file has {} tensors, among them", header.tensors.len());
    for (name, shape) in header.tensors.iter().take(3) {
        println!("    {name} {shape:?}");
    }

    // The layout is recognised by the names. A tensor that is missing, unknown or of another shape is an error that lists
    // them all; nothing is loaded in part.
    let loaded = load(&path, &layout, Which::default())?;
    println!("it is laid out as {}, and holds {}", loaded.dialect, loaded.taken);
    model.write(&loaded.values);

    println!("the model calls the same tensors");
    for segment in layout.segments().iter().take(3) {
        println!("    {} {:?}", segment.name, segment.shape);
    }
    let logits = model.logits(&Cpu::default(), vec![0.5; 32 * 32 * 3], 1)?;
    println!("logits of a grey picture: {:.4?}", &logits[..3]);
    Ok(())
}
