//! Tensors against their storages, and their elements.

use super::{
    Dtype, Problem,
    forge::{self, Described, Pickle, SIX},
    open, refusal, refused, values, with_tensor,
};

fn read(tensor: Described<'_>) -> Vec<f32> {
    values(&mut open(&with_tensor(tensor)).unwrap(), "a")
}

#[test]
fn strides_and_offsets_are_honoured() {
    assert_eq!(read(Described { shape: &[3, 2], strides: &[1, 3], ..SIX }), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(read(Described { offset: 1, shape: &[2, 2], strides: &[3, 1], ..SIX }), [2.0, 3.0, 5.0, 6.0]);
    assert_eq!(read(Described { offset: 5, shape: &[], strides: &[], ..SIX }), [6.0]);
    assert_eq!(read(Described { offset: 4, shape: &[1, 2], strides: &[0, 1], ..SIX }), [5.0, 6.0]);
    assert_eq!(read(Described { shape: &[1, 3, 1, 2], strides: &[9, 2, 7, 1], ..SIX }), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    // A window that slides over the storage by one.
    assert_eq!(read(Described { shape: &[2, 3], strides: &[1, 1], ..SIX }), [1.0, 2.0, 3.0, 2.0, 3.0, 4.0]);
    assert_eq!(read(Described { offset: 6, shape: &[0, 3], strides: &[3, 1], ..SIX }), [0.0_f32; 0]);
}

#[test]
fn long_tensors_are_read_in_parts() {
    let data: Vec<u8> = (0..100_000_u32).flat_map(|value| (value as f32).to_le_bytes()).collect();
    let tensor = |shape, strides| Described { elements: 100_000, shape, strides, ..SIX };
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("a").tensor(tensor(&[100_000], &[1])).text("t").tensor(tensor(&[10, 10_000], &[1, 10]));
    let mut file = open(&forge::zip(&forge::members(&pickle.raw(b"u").stop(), &[&data]))).unwrap();
    assert!(values(&mut file, "a").iter().zip(0_u32..).all(|(value, index)| *value == index as f32));
    let transposed = values(&mut file, "t");
    assert_eq!((transposed[1], transposed[9_999], transposed[10_000]), (10.0, 99_990.0, 1.0));
}

#[test]
fn every_width_becomes_f32() {
    for (class, data, dtype) in [
        // 1.0, -2.5 and the smallest number in each type, by their published bits.
        ("HalfStorage", &[0x00, 0x3c, 0x00, 0xc1][..], Dtype::F16),
        ("BFloat16Storage", &[0x80, 0x3f, 0x20, 0xc0], Dtype::Bf16),
        ("DoubleStorage", &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0x04, 0xc0], Dtype::F64),
        ("FloatStorage", &[0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0], Dtype::F32),
    ] {
        let tensor = Described { class, elements: 2, shape: &[2], strides: &[1], ..SIX };
        let pickle = Pickle::new().raw(b"}").text("a").tensor(tensor).raw(b"s").stop();
        let mut file = open(&forge::zip(&forge::members(&pickle, &[data]))).unwrap();
        assert_eq!((values(&mut file, "a"), file.dtype("a")), (vec![1.0, -2.5], Some(dtype)));
    }
}

#[test]
fn other_types_are_refused_when_they_are_read() {
    for (class, width, name) in [
        ("LongStorage", 8, "int64"),
        ("IntStorage", 4, "int32"),
        ("ShortStorage", 2, "int16"),
        ("CharStorage", 1, "int8"),
        ("ByteStorage", 1, "uint8"),
        ("BoolStorage", 1, "bool"),
    ] {
        let tensor = Described { class, elements: 2, shape: &[2], strides: &[1], ..SIX };
        let pickle = Pickle::new().raw(b"}").text("counter").tensor(tensor).raw(b"s").stop();
        let mut file = open(&forge::zip(&forge::members(&pickle, &[&vec![0; 2 * width]]))).unwrap();
        let error = file.read("counter", &mut [0.0; 2]).unwrap_err();
        assert!(matches!(error.problem, Problem::NotFloat { .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("`counter` is {name}")), "{error}");
    }
}

#[test]
fn the_caller_has_to_know_name_and_length() {
    let mut file = open(&with_tensor(SIX)).unwrap();
    let error = file.read("b", &mut [0.0; 6]).unwrap_err();
    assert!(matches!(error.problem, Problem::OtherModel { .. }), "{error:?}");
    assert!(error.to_string().contains("`b` is no tensor of the file"), "{error}");
    let error = file.read("a", &mut [0.0; 5]).unwrap_err();
    assert!(matches!(error.problem, Problem::OtherModel { .. }), "{error:?}");
    assert!(error.to_string().contains("`a` has 6 elements where 5 were asked for"), "{error}");
}

#[test]
fn a_tensor_that_leaves_its_storage() {
    for tensor in [
        Described { offset: 1, ..SIX },
        Described { strides: &[4, 1], ..SIX },
        Described { shape: &[7], strides: &[1], ..SIX },
        Described { offset: 6, shape: &[], strides: &[], ..SIX },
        Described { offset: 7, shape: &[0], strides: &[1], ..SIX },
        Described { offset: i64::MAX, ..SIX },
    ] {
        refused!(with_tensor(tensor), Damaged, "which has 6 elements");
    }
}

#[test]
fn a_tensor_beyond_all_numbers() {
    const HUGE: i64 = i64::MAX;
    for tensor in [
        Described { shape: &[HUGE, HUGE], strides: &[1, 1], ..SIX },
        Described { shape: &[HUGE, HUGE, 0], strides: &[1, 1, 1], ..SIX },
        Described { shape: &[3, 2], strides: &[HUGE, HUGE], ..SIX },
        Described { offset: HUGE, shape: &[2, 2], strides: &[HUGE, 2], ..SIX },
    ] {
        refused!(with_tensor(tensor), TooLarge, "beyond all memory");
    }
}

#[test]
fn a_tensor_larger_than_its_storage() {
    let tensor = Described { shape: &[1 << 40, 2], strides: &[0, 1], ..SIX };
    refused!(with_tensor(tensor), NotContiguous, "is larger than its storage of 6 elements");
    // Beside the weights it is none of ours.
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("model").raw(b"}").text("a").tensor(SIX).raw(b"s").text("ones").tensor(tensor);
    assert_eq!(super::names(&open(&super::archive(&pickle.raw(b"u").stop())).unwrap()), ["a"]);
}

#[test]
fn a_storage_whose_bytes_overflow() {
    let tensor = Described { class: "DoubleStorage", elements: i64::MAX, ..SIX };
    refused!(with_tensor(tensor), CutOff, "bytes where");
}

#[test]
fn negative_numbers() {
    for tensor in [
        Described { offset: -1, ..SIX },
        Described { shape: &[-2, -3], ..SIX },
        Described { offset: 5, strides: &[-3, -1], ..SIX },
    ] {
        refused!(with_tensor(tensor), Unsupported, "calls `");
    }
}

#[test]
fn shapes_that_do_not_fit_their_strides() {
    refused!(with_tensor(Described { strides: &[1], ..SIX }), Unsupported, "calls `");
    refused!(with_tensor(Described { shape: &[1; 9], strides: &[1; 9], ..SIX }), TooLarge, "a tensor of 9 dimensions");
}

/// The six arguments of a tensor with `last` in the place of its hooks.
fn with_hooks(last: &[u8]) -> Vec<u8> {
    let mut pickle = Pickle::new();
    pickle.raw(b"}").text("a").global("torch._utils", "_rebuild_tensor_v2").raw(b"(").storage("FloatStorage", "0", 6);
    pickle.int(0).ints(&[6]).ints(&[1]).raw(b"\x89").raw(last).raw(b"tRs");
    super::archive(&pickle.stop())
}

#[test]
fn hooks_and_metadata() {
    assert!(open(&with_hooks(b"}")).is_ok());
    assert!(open(&with_hooks(b"}N")).is_ok());
    assert!(open(&with_hooks(b"}}")).is_ok());
    refused!(with_hooks(b"N"), Unsupported, " with backward hooks");
    refused!(with_hooks(b"}K\x01K\x02s"), Unsupported, " with backward hooks");
    // `{"neg": True}`: all numbers with the other sign.
    refused!(with_hooks(b"}}X\x03\0\0\0neg\x88s"), Unsupported, "has no named tensors");
    refused!(with_hooks(b"}NN"), Unsupported, " with metadata");
}
