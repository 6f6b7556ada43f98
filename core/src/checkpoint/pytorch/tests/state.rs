//! Which tensors of a checkpoint are read, and under which names.

use super::{
    PytorchError, archive,
    forge::{Pickle, SIX},
    names, open, refusal, refused,
};

/// `{"<name>": a tensor}` for every name, on top of the stack.
fn dict<'a>(pickle: &'a mut Pickle, names: &[&str]) -> &'a mut Pickle {
    pickle.raw(b"}(");
    names.iter().for_each(|name| _ = pickle.text(name).tensor(SIX));
    pickle.raw(b"u")
}

fn read(pickle: &mut Pickle) -> Vec<String> {
    names(&open(&archive(&pickle.stop())).unwrap())
}

#[test]
fn what_is_no_tensor_is_ignored() {
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("epoch").int(3).text("best").raw(b"G\x3f\xe0\0\0\0\0\0\0").text("no").raw(b"N");
    pickle.text("yes").raw(b"\x88").text("about").text("a model").text("large").raw(b"\x8a\x09\0\0\0\0\0\0\0\0\x40");
    pickle.text("below").int(-5).text("later").int(70_000).text("list").raw(b"](K\x01K\x02e");
    pickle.text("tuple").ints(&[1, 2, 3, 4]).text("a").tensor(SIX).int(0).tensor(SIX).raw(b"u");
    assert_eq!(read(&mut pickle), ["a"]);
}

#[test]
fn a_state_dict_has_attributes() {
    let mut pickle = Pickle::new();
    pickle.ordered().raw(b"(").text("a").tensor(SIX).text("b").tensor(SIX).raw(b"u");
    pickle.raw(b"}").text("_metadata").ordered().raw(b"sb");
    assert_eq!(read(&mut pickle), ["a", "b"]);
}

#[test]
fn a_parameter_is_a_tensor() {
    let mut pickle = Pickle::new();
    pickle.raw(b"}").text("p").global("torch._utils", "_rebuild_parameter").tensor(SIX).raw(b"\x88").ordered();
    assert_eq!(read(pickle.raw(b"\x87Rs")), ["p"]);
}

#[test]
fn the_model_comes_before_its_average() {
    for (sections, expected) in [
        (&["model_ema", "optimizer", "state_dict", "model"][..], "model"),
        (&["model_ema", "optimizer", "state_dict"], "state_dict"),
        (&["optimizer", "model_ema"], "model_ema"),
    ] {
        let mut pickle = Pickle::new();
        pickle.raw(b"}(");
        sections.iter().for_each(|name| _ = dict(pickle.text(name), &[&format!("of {name}")]));
        assert_eq!(read(pickle.raw(b"u")), [format!("of {expected}")]);
    }
}

#[test]
fn a_section_without_tensors_is_none() {
    let mut pickle = Pickle::new();
    pickle
        .raw(b"}(")
        .text("model")
        .text("convnextv2_atto")
        .text("state_dict")
        .raw(b"}")
        .text("w")
        .tensor(SIX)
        .raw(b"u");
    assert_eq!(read(&mut pickle), ["w"]);
}

#[test]
fn dicts_inside_are_flattened() {
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("encoder");
    dict(&mut pickle, &["stem.weight", "stem.bias"]).text("decoder");
    assert_eq!(read(dict(&mut pickle, &["w"]).raw(b"u")), ["encoder.stem.weight", "encoder.stem.bias", "decoder.w"]);
}

#[test]
fn a_wrapper_around_all_is_taken_away() {
    assert_eq!(read(dict(&mut Pickle::new(), &["module.a", "module.b.c"])), ["a", "b.c"]);
    assert_eq!(read(dict(&mut Pickle::new(), &["module.a", "b"])), ["module.a", "b"]);
    assert_eq!(read(dict(&mut Pickle::new(), &["module."])), ["module."]);
}

#[test]
fn something_else_than_a_dict() {
    refused!(archive(&Pickle::new().raw(b"]").stop()), PytorchError::Root { found: "a list", .. });
    refused!(archive(&Pickle::new().tensor(SIX).stop()), PytorchError::Root { found: "a tensor", .. });
}

#[test]
fn no_tensors() {
    refused!(archive(&Pickle::new().raw(b"}").text("a").raw(b"Ns").stop()), PytorchError::NoTensors(_));
}

#[test]
fn a_dict_in_itself() {
    let pickle = Pickle::new().raw(b"}").put().text("me").raw(b"h\x00s").stop();
    let message = refused!(archive(&pickle), PytorchError::TooDeep { .. });
    assert!(message.contains("me.me.me"), "{message}");
}

#[test]
fn dicts_that_share_dicts() {
    // Twenty references to the dict before, six times: 64 million entries if anybody looked at all.
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("first").raw(b"}r\x00\x01\x00\x00");
    for level in 0..6 {
        pickle.text(&format!("level {level}")).raw(b"}(");
        (0..20).for_each(|key| _ = pickle.text(&format!("{key}")).raw(b"j\x00\x01\x00\x00"));
        pickle.raw(b"ur\x00\x01\x00\x00");
    }
    refused!(archive(&pickle.raw(b"u").stop()), PytorchError::TooManyEntries(_));
}

#[test]
fn two_tensors_of_one_name() {
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("a.b").tensor(SIX).text("a");
    refused!(archive(&dict(&mut pickle, &["b"]).raw(b"u").stop()), PytorchError::NameTwice { name, .. } if name == "a.b");
}

#[test]
fn a_name_without_an_end() {
    let name = "x".repeat(2000);
    refused!(archive(&dict(&mut Pickle::new(), &[&name]).stop()), PytorchError::NameTooLong { .. });
}
