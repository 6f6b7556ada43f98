//! No file may cause a panic, or make the reader offer more than the file holds.

use std::io::{Seek, Write};

use tempfile::NamedTempFile;

use super::{PytorchFile, Section, file, small_archive, small_legacy};

/// Whatever the bytes are: an error, or tensors that can be read.
fn survive(scratch: &mut NamedTempFile, bytes: &[u8]) {
    // In place: some file systems take milliseconds for a file that is emptied and written anew.
    scratch.rewind().unwrap();
    scratch.write_all(bytes).unwrap();
    scratch.as_file().set_len(bytes.len() as u64).unwrap();
    PytorchFile::is_pytorch(bytes);
    let Ok(mut file) = PytorchFile::open(scratch.path(), Section::Best) else { return };
    let tensors: Vec<(String, usize)> =
        file.tensors().map(|(name, shape)| (name.into(), shape.iter().product())).collect();
    for (name, len) in tensors {
        assert!(len <= bytes.len(), "{name} claims {len} elements");
        // Counters are refused.
        _ = file.read(&name, &mut vec![0.0; len]);
    }
}

fn both() -> [Vec<u8>; 2] {
    [small_archive(), small_legacy().bytes()]
}

#[test]
fn every_byte_may_be_any_other() {
    let mut scratch = file(b"");
    for bytes in both() {
        for place in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff, bytes[place]] {
                let mut noisy = bytes.clone();
                noisy[place] ^= change;
                survive(&mut scratch, &noisy);
            }
        }
    }
}

#[test]
fn every_length_is_survived() {
    let mut scratch = file(b"");
    for bytes in both() {
        for len in 0..bytes.len() {
            survive(&mut scratch, &bytes[..len]);
            assert!(
                PytorchFile::open(scratch.path(), Section::Best).is_err(),
                "the first {len} bytes are no whole file"
            );
        }
    }
}

/// Several bytes at once, among them ones that mean something to the machine.
#[test]
fn random_bytes_are_survived() {
    const TELLING: &[u8] = b"(.)}]tuseaqhcRbQKMJX\x85\x86\x87\x88\x89\x8a\x00\x01\xff\x7f";
    let rounds = std::env::var("NOISE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2000);
    let mut scratch = file(b"");
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for bytes in both() {
        for _ in 0..rounds {
            let mut noisy = bytes.clone();
            for _ in 0..=random(3) {
                let place = random(noisy.len());
                noisy[place] = if random(2) == 0 { TELLING[random(TELLING.len())] } else { random(256) as u8 };
            }
            survive(&mut scratch, &noisy);
        }
    }
}
