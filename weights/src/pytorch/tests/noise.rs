//! No file may cause a panic, or make the reader offer more than the file holds.

use std::io::{Seek, Write};

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::{
    PytorchFile, Section, archive, file,
    foreign::both_official,
    forge::{Pickle, SIX},
    small_archive, small_legacy,
};

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
    for bytes in both().into_iter().chain(both_official()) {
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

/// One instruction with arguments that may be right.
fn instruction() -> impl Strategy<Value = Vec<u8>> {
    const WHOLE: &[&[u8]] = &[
        b"I7\n",
        b"L12L\n",
        b"F0.5\n",
        b"S'a'\n",
        b"Va\n",
        b"p3\n",
        b"g3\n",
        b"cos\nsystem\n",
        b"ios\nsystem\n",
        b"K\x05",
        b"M\x05\x00",
        b"J\x05\x00\x00\x00",
        b"\x8a\x01\x05",
        b"\x8b\x01\x00\x00\x00\x05",
        b"G\0\0\0\0\0\0\0\0",
        b"X\x01\x00\x00\x00a",
        b"\x8c\x02os",
        b"\x8d\x01\0\0\0\0\0\0\0a",
        b"T\x01\0\0\0a",
        b"U\x01a",
        b"B\x01\0\0\0a",
        b"C\x01a",
        b"\x8e\x01\0\0\0\0\0\0\0a",
        b"\x96\x01\0\0\0\0\0\0\0a",
        b"q\x01",
        b"h\x01",
        b"r\x01\0\0\0",
        b"j\x01\0\0\0",
        b"\x82\x01",
        b"\x83\x01\0",
        b"\x84\x01\0\0\0",
        b"\x80\x04",
        b"\x95\x09\0\0\0\0\0\0\0",
        b"ccollections\nOrderedDict\n)R",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch._utils\n_rebuild_tensor_v3\n",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"ctorch._tensor\n_rebuild_from_type_v2\n",
        b"ctorch\nFloatStorage\n",
        b"ctorch\nfloat32\n",
        b"X\x07\0\0\0storage",
        b"X\x01\0\0\x000",
        b"(X\x0b\0\0\0_parameters",
    ];
    prop_oneof![
        3 => proptest::sample::select(WHOLE).prop_map(<[u8]>::to_vec),
        4 => proptest::sample::select(&b"(.012NNolt)d}]aesuRRb\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94Q"[..])
            .prop_map(|opcode| vec![opcode]),
        1 => Just(Pickle::new().tensor(SIX).stop()[2..].strip_suffix(b".").unwrap_or_default().to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn instructions_in_any_order_are_survived(soup in prop::collection::vec(instruction(), 1..60)) {
        // Under a text key, so that what they build is looked at.
        let pickle = Pickle::new().raw(b"}X\x01\0\0\0a").raw(&soup.concat()).raw(b"s").stop();
        survive(&mut file(b""), &archive(&pickle));
        survive(&mut file(b""), &archive(&soup.concat()));
    }

    #[test]
    fn parts_of_checkpoints_put_elsewhere_are_survived(from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>(),
                                                        len in 1_usize..80, legacy in any::<bool>()) {
        let mut bytes = both_official()[usize::from(legacy)].clone();
        let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
        let part = bytes[from..bytes.len().min(from + len)].to_vec();
        bytes.splice(to..bytes.len().min(to + len), part);
        survive(&mut file(b""), &bytes);
    }
}
