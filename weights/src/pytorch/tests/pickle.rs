//! Lies of the pickle.

use super::{
    Problem, archive,
    forge::{Pickle, SIX},
    names, open, refusal, refused,
};

/// An archive with a pickle of these instructions.
fn raw(instructions: &[u8]) -> Vec<u8> {
    archive(&Pickle::new().raw(instructions).stop())
}

#[test]
fn instructions_that_torch_does_not_write() {
    for (instruction, name) in [(b'P', "PERSID"), (0x97, "NEXT_BUFFER"), (0x98, "READONLY_BUFFER"), (0xff, "0xff")] {
        let message = refused!(raw(&[instruction]), Damaged, "at byte 2, has");
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn names_are_printed_without_control_characters() {
    let message = refused!(raw(b"c\x1b[2J\nx\n"), Unsupported, "the saved object is");
    assert!(!message.contains('\u{1b}'), "{message}");
}

#[test]
fn lines_without_an_end() {
    refused!(raw(&[b"c", &[b'x'; 2 << 20][..]].concat()), Damaged, "has a line of more than");
}

#[test]
fn later_protocols() {
    refused!(archive(b"\x80\x06}."), Unsupported, "is of protocol 6");
}

#[test]
fn a_call_of_what_is_no_function() {
    let message = refused!(raw(b"ctorch\nFloatStorage\n)R"), Forged, "wants to call");
    assert!(message.contains("`torch.FloatStorage`"), "{message}");
    refused!(raw(b"X\x02\0\0\0os)R"), Forged, "wants to call");
    refused!(raw(b"ccollections\nOrderedDict\n]R"), Damaged, "gives a list to");
}

#[test]
fn other_arguments() {
    refused!(raw(b"ccollections\nOrderedDict\n]\x85R"), Unsupported, "calls `");
    refused!(raw(b"ctorch._utils\n_rebuild_tensor_v2\n)R"), Unsupported, "calls `");
    refused!(raw(b"ctorch._utils\n_rebuild_tensor_v2\n(NNNNNNtR"), Unsupported, "calls `");
    refused!(raw(b"ctorch._utils\n_rebuild_parameter\n)R"), Unsupported, "calls `");
    refused!(raw(b"ctorch._utils\n_rebuild_parameter\n}\x88}\x87R"), Unsupported, "calls `");
}

#[test]
fn attributes() {
    refused!(raw(b"}}b"), Unsupported, "sets attributes of a dict");
    refused!(raw(b"ctorch\nFloatStorage\n}b"), Unsupported, "sets attributes of torch.FloatStorage");
    refused!(raw(b"ccollections\nOrderedDict\n)RNb"), Damaged, " to ");
    refused!(raw(b"cargparse\nNamespace\n)\x81}b"), Unsupported, "argparse.Namespace");
}

#[test]
fn a_note_that_was_never_taken() {
    refused!(raw(b"h\x05"), Damaged, "refers to memo 5");
    refused!(raw(b"j\xff\xff\xff\xff"), Damaged, "refers to memo 4294967295");
}

#[test]
fn too_few_values() {
    let cases = [
        &b""[..],
        b"\x85",
        b"N\x86",
        b"t",
        b"u",
        b"}Nu",
        b"s",
        b"}(Nu",
        b"a",
        b"e",
        b"(q\0",
        b"R",
        b"b",
        b"Q",
        b"N(a",
        b"0",
        b"1",
        b"2",
        b"o",
        b"(o",
        b"d",
        b"l",
        b"}(Nu",
        b"\x90",
        b"\x91",
        b"\x93",
        b"\x94",
        b"\x92",
        b"\x81",
        b"i\n\n",
    ];
    for instructions in cases {
        refused!(raw(instructions), Damaged, "has too few values for");
    }
}

#[test]
fn values_of_another_type() {
    refused!(raw(b"NNNs"), Damaged, "gives None to");
    refused!(raw(b"}(NNe"), Damaged, "gives a dict to");
    refused!(raw(b"}]Ns"), Damaged, "gives a list to");
}

#[test]
fn values_left_over() {
    refused!(raw(b"NN"), Forged, "ends with 1 values left over");
    refused!(raw(b"N(N"), Forged, "ends with 2 values left over");
}

#[test]
fn a_pickle_without_an_end() {
    refused!(archive(b"\x80\x02}"), CutOff, "ends too early");
}

#[test]
fn absurd_lengths() {
    for claim in [&b"X\xff\xff\xff\xff"[..], b"\x8b\xff\xff\xff\xff", b"B\0\0\0\x80", b"T\xff\xff\xff\xff"] {
        refused!(raw(claim), TooLarge, "leads beyond the");
    }
    for claim in [0x8d, 0x8e, 0x96] {
        refused!(raw(&[&[claim][..], &[0xff; 8]].concat()), TooLarge, "leads beyond the");
    }
    refused!(raw(b"\x8a\xff"), CutOff, "ends too early");
    refused!(raw(b"B\0\0\0\x20"), CutOff, "ends too early");
    refused!(raw(b"X\0\0\x10\0"), CutOff, "ends too early");
}

#[test]
fn a_text_that_is_none() {
    refused!(raw(b"X\x01\0\0\0\xff"), Damaged, "not UTF-8");
}

#[test]
fn a_key_that_is_set_twice() {
    let pickle = Pickle::new().raw(b"}").text("a").raw(b"Ns").text("a").raw(b"Ns").stop();
    refused!(archive(&pickle), Forged, "sets `a` twice in one dict");
}

#[test]
fn more_values_than_allowed() {
    const MANY: usize = (1 << 20) + 1;
    let notes = |n: u32| [b"r", &n.to_le_bytes()[..]].concat();
    for instructions in [
        vec![b'}'; MANY],
        vec![b'('; MANY],
        vec![b'N'; MANY],
        [b"N", &vec![b'2'; MANY][..]].concat(),
        b"ca\nb\n0".repeat(MANY),
        [b"N", &(0..MANY as u32).flat_map(notes).collect::<Vec<_>>()[..]].concat(),
        [b"](", &b"]0".repeat(MANY)[..], b"e"].concat(),
    ] {
        refused!(raw(&instructions), TooLarge, "holds more than the");
    }
    // A thousand texts of 64 kB each, and one of them noted.
    let text = [b"X\0\0\x01\0", &[b'x'; 1 << 16][..], b"0"].concat();
    refused!(raw(&text.repeat(1000)), TooLarge, "holds more than the");
}

#[test]
fn numbers_in_lists_are_not_held() {
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("a").tensor(SIX).text("losses").raw(b"]");
    for _ in 0..2000 {
        pickle.raw(b"(").raw(&b"G\0\0\0\0\0\0\0\0K\x07N".repeat(333)).raw(b"e");
    }
    assert_eq!(names(&open(&archive(&pickle.raw(b"u").stop())).unwrap()), ["a"]);
}

#[test]
fn references_to_other_things() {
    let wrong = |instructions: &[u8]| _ = refused!(raw(instructions), Unsupported, "refers to a storage by");
    wrong(b"NQ");
    wrong(b")Q");
    wrong(b"X\x01\0\0\x000Q");
    for (tag, class, key, elements) in [
        ("module", "FloatStorage", "0", 6),
        ("storage", "FloatStorage", "../../etc/passwd", 6),
        ("storage", "FloatStorage", "", 6),
        ("storage", "FloatStorage", "0", -1),
    ] {
        let mut pickle = Pickle::new();
        pickle.raw(b"(").text(tag).global("torch", class).text(key).text("cpu").int(elements).raw(b"tQ");
        refused!(archive(&pickle.stop()), Unsupported, "refers to a storage by");
    }
    let mut pickle = Pickle::new();
    pickle.raw(b"(").text("storage").global("collections", "OrderedDict").text("0").text("cpu").int(6).raw(b"tQ");
    refused!(archive(&pickle.stop()), Unsupported, "refers to a storage by");
}

#[test]
fn one_storage_of_two_kinds() {
    for (class, elements) in [("HalfStorage", 6), ("FloatStorage", 7)] {
        let pickle = Pickle::new().storage("FloatStorage", "0", 6).storage(class, "0", elements).stop();
        refused!(archive(&pickle), Forged, "has two types or lengths");
    }
}

#[test]
fn more_tensors_than_allowed() {
    // The arguments once, the call as often as it takes.
    let mut pickle = Pickle::new();
    pickle.raw(b"(").global("torch._utils", "_rebuild_tensor_v2").raw(b"(").storage("FloatStorage", "0", 6);
    pickle.raw(b"K\x00K\x06\x85K\x01\x85\x89}tr\x00\x01\x00\x00R");
    for _ in 0..1 << 16 {
        pickle.global("torch._utils", "_rebuild_tensor_v2").raw(b"j\x00\x01\x00\x00R");
    }
    refused!(archive(&pickle.raw(b"t").stop()), TooLarge, "has more than the 65536 tensors");
}

#[test]
fn lists_that_share_lists_cost_nothing() {
    // Ten references to the list before, forty times: 10^40 elements if anybody wrote them out.
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("a").tensor(SIX).text("laughs").raw(b"(]r\x00\x01\x00\x00");
    for _ in 0..40 {
        pickle.raw(b"](").raw(&b"j\x00\x01\x00\x00".repeat(10)).raw(b"er\x00\x01\x00\x00");
    }
    assert_eq!(names(&open(&archive(&pickle.raw(b"tu").stop())).unwrap()), ["a"]);
}

#[test]
fn a_list_in_itself_is_ignored() {
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("a").tensor(SIX).text("l").raw(b"]r\x00\x01\x00\x00j\x00\x01\x00\x00au");
    assert_eq!(names(&open(&archive(&pickle.stop())).unwrap()), ["a"]);
}

#[test]
fn tuples_as_deep_as_they_can_be_do_not_recurse() {
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("a").tensor(SIX).text("deep").raw(b")").raw(&[0x85; 500_000]).raw(b"u");
    assert_eq!(names(&open(&archive(&pickle.stop())).unwrap()), ["a"]);
}
