//! Which tensors of a checkpoint are read, and under which names.

use super::{
    Problem, PytorchFile, Section, archive, file,
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

/// A file with these dicts of one tensor each, the tensor called after its dict.
fn sections(names: &[&str]) -> Vec<u8> {
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("epoch").int(3);
    names.iter().for_each(|name| _ = dict(pickle.text(name), &[&format!("of {name}")]));
    archive(&pickle.raw(b"u").stop())
}

/// The section that is taken, and what it holds.
fn taken(bytes: &[u8], section: Section<'_>) -> (Option<String>, Vec<String>) {
    let file = PytorchFile::open(file(bytes).path(), section).unwrap();
    (file.section().map(str::to_owned), names(&file))
}

#[test]
fn the_average_comes_before_the_model_and_either_can_be_had() {
    for (names, best, trained) in [
        (&["model_ema", "optimizer", "state_dict", "model"][..], "model_ema", "model"),
        (&["state_dict", "state_dict_ema"], "state_dict_ema", "state_dict"),
        (&["model", "ema_state_dict"], "ema_state_dict", "model"),
        (&["optimizer", "model_state_dict"], "model_state_dict", "model_state_dict"),
        (&["generator", "optimizer"], "generator", "generator"),
    ] {
        let bytes = sections(names);
        let of = |name: &str| (Some(name.to_owned()), vec![format!("of {name}")]);
        assert_eq!(taken(&bytes, Section::Best), of(best));
        assert_eq!(taken(&bytes, Section::Trained), of(trained));
        assert_eq!(taken(&bytes, Section::Key(names[0])), of(names[0]));
    }
}

#[test]
fn what_is_asked_for_and_is_not_there() {
    let refused = |names: &[&str], section| {
        let error = PytorchFile::open(file(&sections(names)).path(), section).map(drop).unwrap_err();
        assert!(matches!(error.problem, Problem::NoSection { .. }), "{error:?}");
        error.to_string()
    };
    let message = refused(&["model", "optimizer"], Section::Average);
    assert!(message.ends_with("has no moving average; its dicts of tensors are `model`, `optimizer`"), "{message}");
    let message = refused(&["model_ema"], Section::Trained);
    assert!(message.contains("has no trained weights; its dicts of tensors are `model_ema`"), "{message}");
    let message = refused(&["model"], Section::Key("epoch"));
    assert!(message.contains("no dict of tensors at `epoch`; its dicts of tensors are `model`"), "{message}");
}

#[test]
fn one_dict_of_tensors_is_all_there_is_to_choose() {
    let bytes = archive(&dict(&mut Pickle::new(), &["a", "b"]).stop());
    for section in [Section::Best, Section::Trained, Section::Average] {
        assert_eq!(taken(&bytes, section), (None, vec!["a".into(), "b".into()]));
    }
}

#[test]
fn sections_may_lie_deeper() {
    // `{"checkpoint": {"epoch": 3, "network": {..}, "ema": {..}, "optimizer": {..}}, "best.of": {"all": {..}}}`
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("model").raw(b"}(").text("epoch").int(3);
    dict(pickle.text("network"), &["n"]);
    dict(pickle.text("ema"), &["e"]);
    pickle.raw(b"u").text("best.of").raw(b"}").text("all");
    let bytes = archive(&dict(&mut pickle, &["b"]).raw(b"su").stop());
    let of = |section: &str, name: &str| (Some(section.to_owned()), vec![name.to_owned()]);
    assert_eq!(taken(&bytes, Section::Best), of("model.ema", "e"));
    assert_eq!(taken(&bytes, Section::Trained), of("model.network", "n"));
    assert_eq!(taken(&bytes, Section::Key("best.of.all")), of("best.of.all", "b"));
    assert_eq!(taken(&bytes, Section::Key("model")), (Some("model".into()), vec!["network.n".into(), "ema.e".into()]));
}

#[test]
fn a_part_of_a_model_may_be_called_like_a_section() {
    let mut pickle = Pickle::new();
    pickle.raw(b"}").text("model").raw(b"}(");
    dict(pickle.text("net"), &["a"]);
    dict(pickle.text("head"), &["b"]);
    let expected = (Some("model".into()), vec!["net.a".into(), "head.b".into()]);
    assert_eq!(taken(&archive(&pickle.raw(b"us").stop()), Section::Best), expected);
}

#[test]
fn tensors_beside_the_sections_are_none_of_the_model() {
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("rng_state").tensor(SIX);
    dict(pickle.text("state_dict"), &["a"]);
    assert_eq!(taken(&archive(&pickle.raw(b"u").stop()), Section::Best), (Some("state_dict".into()), vec!["a".into()]));
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
fn something_else_than_a_dict() {
    refused!(archive(&Pickle::new().raw(b"]").stop()), Unsupported, "the saved object is a list");
    refused!(archive(&Pickle::new().tensor(SIX).stop()), Unsupported, "the saved object is a tensor");
}

#[test]
fn no_tensors() {
    refused!(archive(&Pickle::new().raw(b"}").text("a").raw(b"Ns").stop()), Unsupported, "has no named tensors");
}

#[test]
fn a_dict_in_itself() {
    let itself = |pickle: &mut Pickle| archive(&pickle.raw(b"}").put().text("me").raw(b"h\x00s").stop());
    refused!(itself(&mut Pickle::new()), Unsupported, "has no named tensors");
    let bytes =
        archive(&Pickle::new().raw(b"}").put().text("me").raw(b"h\x00s").text("a").tensor(SIX).raw(b"s").stop());
    let message = refused!(bytes, Unsupported, "lies more than 8 dicts deep");
    assert!(message.contains("me.me.me"), "{message}");
    // Beside the tensors it does no harm.
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("a").tensor(SIX).text("args").raw(b"}r\x00\x01\x00\x00").text("me");
    assert_eq!(read(pickle.raw(b"j\x00\x01\x00\x00su")), ["a"]);
}

#[test]
fn dicts_that_share_dicts() {
    // Twenty references to the dict before, six times: 64 million entries if anybody looked at all.
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("a").tensor(SIX).text("first");
    dict(&mut pickle, &["w"]).raw(b"r\x00\x01\x00\x00");
    for level in 0..6 {
        pickle.text(&format!("level {level}")).raw(b"}(");
        (0..20).for_each(|key| _ = pickle.text(&format!("{key}")).raw(b"j\x00\x01\x00\x00"));
        pickle.raw(b"ur\x00\x01\x00\x00");
    }
    refused!(archive(&pickle.raw(b"u").stop()), TooLarge, "has more than the 1048576 dict entries");
}

#[test]
fn two_tensors_of_one_name() {
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("a.b").tensor(SIX).text("a");
    refused!(archive(&dict(&mut pickle, &["b"]).raw(b"u").stop()), Unsupported, "`a.b` is the name of two tensors");
}

#[test]
fn a_name_without_an_end() {
    let name = "x".repeat(2000);
    refused!(archive(&dict(&mut Pickle::new(), &[&name]).stop()), TooLarge, "is the start of a name");
}
