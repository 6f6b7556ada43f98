//! The decoders named in the fingerprint of a run are those that were built.

use std::fs;
use std::path::Path;

#[test]
fn decoder_names_the_locked_versions() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lock = fs::read_to_string(manifest.join("../Cargo.lock")).expect("the workspace has a lock file");
    for name in ["zune-jpeg", "jpeg-decoder", "png", "image", "image-webp", "gif", "tiff"] {
        let entry = format!("name = \"{name}\"\nversion = \"");
        let start = lock.find(&entry).expect("the decoder is locked") + entry.len();
        let version = lock[start..].split('"').next().expect("a version ends with a quote");
        let expected = format!("{name} {version}");
        assert!(
            convnext_data::DECODER.contains(&expected),
            "the lock file has {expected}, `DECODER` says {:?}: change it, and expect other pixels",
            convnext_data::DECODER
        );
    }
}
