//! What training programs save beside the weights: passed over, whatever it is. The instructions are those that torch 2.15
//! wrote for the values in the comments.

use super::{
    Problem, PytorchFile, Section, archive, file,
    forge::{self, Described, Legacy, Pickle, SIX},
    names, one_to, open, refusal, refused, values,
};

/// `{"model": {"w": a tensor}, "optimizer": {"state": {0: {"step": ..}}}, "epoch": a scalar of numpy, "args": a namespace,
/// "model_ema": {"w": another}}`.
pub(super) fn official(mut pickle: Pickle, keys: [&str; 2]) -> Vec<u8> {
    let tensor = |key| Described { key, ..SIX };
    pickle.raw(b"}(").text("model").ordered().text("w").tensor(tensor(keys[0])).raw(b"s}").text("_metadata").ordered();
    pickle.raw(b"sb").text("optimizer").raw(b"}").text("state").raw(b"}").int(0).raw(b"}").text("exp_avg");
    pickle.tensor(tensor(keys[0])).raw(b"sss").text("epoch").raw(SCALAR).text("args").raw(NAMESPACE).text("model_ema");
    pickle.raw(b"}").text("w").tensor(tensor(keys[1])).raw(b"su").stop()
}

/// argparse.Namespace(lr=0.1)
const NAMESPACE: &[u8] = b"cargparse\nNamespace\n)\x81}X\x02\0\0\0lrG?\xb9\x99\x99\x99\x99\x99\x9asb";

/// numpy.float64(0.5), of numpy 2
const SCALAR: &[u8] =
    b"cnumpy._core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\0\0\0f8\x89\x88\x87R(K\x03X\x01\0\0\0<NNNJ\xff\
    \xff\xff\xffJ\xff\xff\xff\xffK\0tbc_codecs\nencode\nX\x09\0\0\0\0\0\0\0\0\0\xc3\xa0?X\x06\0\0\0latin1\x86R\x86R";

/// In both containers.
pub(super) fn both_official() -> [Vec<u8>; 2] {
    let halves: Vec<u8> = (1..=6).flat_map(|value| (f32::from(value as u8) / 2.0).to_le_bytes()).collect();
    let archive = forge::zip(&forge::members(&official(Pickle::new(), ["0", "1"]), &[&one_to(6), &halves]));
    let object = official(Pickle::legacy(), ["94", "95"]);
    [archive, Legacy::new(object, &["94", "95"], &[(6, &one_to(6)), (6, &halves)]).bytes()]
}

#[test]
fn official_checkpoints_in_both_containers() {
    for bytes in both_official() {
        let read = |section| {
            let mut file = PytorchFile::open(file(&bytes).path(), section).unwrap();
            assert_eq!(names(&file), ["w"]);
            (file.section().map(str::to_owned), file.is_average(), values(&mut file, "w"))
        };
        let average = (Some("model_ema".into()), true, vec![0.5, 1.0, 1.5, 2.0, 2.5, 3.0]);
        assert_eq!(read(Section::Best), average);
        assert_eq!(read(Section::Average), average);
        let trained = (Some("model".into()), false, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(read(Section::Trained), trained);
        assert_eq!(read(Section::Key("model")), trained);
    }
}

/// `{"before": ..., "model": {"w": a tensor}, "after": ...}` with a value of these instructions in both places.
fn beside(instructions: &[u8]) -> Vec<u8> {
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("before").raw(instructions).text("model").raw(b"}").text("w").tensor(SIX).raw(b"s");
    archive(&pickle.text("after").raw(instructions).raw(b"u").stop())
}

fn check_passed_over(instructions: &[u8]) {
    let mut file = open(&beside(instructions)).unwrap_or_else(|error| panic!("{instructions:?}: {error}"));
    assert_eq!((names(&file), file.section()), (vec!["w".to_owned()], Some("model")));
    assert_eq!(values(&mut file, "w"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn what_official_checkpoints_hold() {
    for instructions in [
        NAMESPACE,
        SCALAR,
        // torch.device("cuda", 0), torch.Size([2, 3]), torch.float32
        b"ctorch\ndevice\nX\x04\0\0\0cudaK\0\x86R",
        b"ctorch\nSize\nK\x02K\x03\x86\x85R",
        b"ctorch\nfloat32\n",
        // pathlib.PosixPath("a")
        b"cpathlib\nPosixPath\nX\x01\0\0\0a\x85R",
        // collections.defaultdict(list, {"a": []})
        b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85RX\x01\0\0\0a]s",
        // {1, 2}, frozenset({1}), b"ab", bytearray(b"ab") of protocol 2
        b"c__builtin__\nset\n](K\x01K\x02e\x85R",
        b"c__builtin__\nfrozenset\n]K\x01a\x85R",
        b"c_codecs\nencode\nX\x02\0\0\0abX\x06\0\0\0latin1\x86R",
        // datetime.timedelta(days=1)
        b"cdatetime\ntimedelta\nK\x01K\0K\0\x87R",
        // functools.partial(int, base=2)
        b"cfunctools\npartial\nc__builtin__\nint\n\x85R(c__builtin__\nint\n)}X\x04\0\0\0baseK\x02sNtb",
        // 2 ** 200, 1 + 2j, Ellipsis
        b"\x8a\x1a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01",
        b"c__builtin__\ncomplex\nG?\xf0\0\0\0\0\0\0G@\0\0\0\0\0\0\0\x86R",
        b"c__builtin__\nEllipsis\n",
        // A text of half a surrogate pair, as in names of files.
        b"X\x03\0\0\0\xed\xb3\xbf",
        // torch.zeros(2, device="meta"): a tensor without elements.
        b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(ctorch\nfloat32\nK\x02\x85K\x01\x85\x89tR",
    ] {
        check_passed_over(instructions);
    }
}

#[test]
fn every_protocol_and_instruction() {
    for instructions in [
        // Protocols 0 and 1.
        &b"I7\n"[..],
        b"I01\n",
        b"L123456789012345678901234567890L\n",
        b"F0.5\n",
        b"S'a\\'b'\n",
        b"S\"a\"\n",
        b"V\\u20ac\n",
        b"T\x02\0\0\0\xff\xfe",
        b"U\x01a",
        b"(I1\nI2\nt",
        b"(I1\nl",
        b"(VA\nI1\nd",
        b"Va\np77\n0g77\n",
        b"(cargparse\nNamespace\no}b",
        b"(I1\niargparse\nNamespace\n(dVa\nI1\nsb",
        b"ccopy_reg\n_reconstructor\n(cargparse\nNamespace\nc__builtin__\nobject\nNtR(dVa\nI1\nsb",
        b"(NN1N2N00K\x010",
        // Protocols 2 to 5.
        b"\x82\x01",
        b"\x83\x01\x02",
        b"\x84\x01\x02\x03\x04",
        b"\x8b\x02\0\0\0\x01\x02",
        b"B\x02\0\0\0ab",
        b"C\x02ab",
        b"\x95\x0a\0\0\0\0\0\0\0\x8c\x01a\x94",
        b"\x8d\x01\0\0\0\0\0\0\0a",
        b"\x8e\x01\0\0\0\0\0\0\0a",
        b"\x96\x01\0\0\0\0\0\0\0a",
        b"\x8f(K\x01\x90",
        b"(K\x01\x91",
        b"\x8c\x08argparse\x8c\x09Namespace\x93)\x81}b",
        b"\x8c\x08argparse\x8c\x09Namespace\x93)}\x92",
        // An object that takes items as a list and as a dict.
        b"cmine\nList\n)\x81K\x01a(K\x01K\x02e",
        b"cmine\nSet\n)\x81(K\x01\x90",
    ] {
        check_passed_over(instructions);
    }
}

#[test]
fn whole_files_of_other_protocols() {
    // {"w": torch.tensor([1., 2., 3., 4., 5., 6.])}, as torch.save(.., pickle_protocol=5) and 1 write it.
    let latest = b"\x80\x05\x95\x9d\0\0\0\0\0\0\0}\x94\x8c\x01w\x94\x8c\x0ctorch._utils\x94\x8c\x12_rebuild_tensor_v2\x94\x93\
        \x94((\x8c\x07storage\x94\x8c\x05torch\x94\x8c\x0cFloatStorage\x94\x93\x94\x8c\x010\x94\x8c\x03cpu\x94K\x06t\x94QK\0K\
        \x06\x85\x94K\x01\x85\x94\x89\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94t\x94R\x94s.";
    let early = b"}q\0X\x01\0\0\0wq\x01ctorch._utils\n_rebuild_tensor_v2\nq\x02((X\x07\0\0\0storageq\x03ctorch\nFloatStorage\n\
        q\x04X\x01\0\0\x000q\x05X\x03\0\0\0cpuq\x06K\x06tq\x07QK\0(K\x06tq\x08(K\x01tq\x09I00\nccollections\nOrderedDict\nq\n\
        )Rq\x0btq\x0cRq\rs.";
    for pickle in [&latest[..], early] {
        assert_eq!(values(&mut open(&archive(pickle)).unwrap(), "w"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }
}

#[test]
fn a_parameter_with_attributes() {
    // p = torch.nn.Parameter(..); p.foo = 3
    let mut pickle = Pickle::new();
    pickle
        .raw(b"}")
        .text("w")
        .global("torch._utils", "_rebuild_parameter_with_state")
        .raw(b"(")
        .tensor(SIX)
        .raw(b"\x88");
    let bytes = archive(&pickle.ordered().raw(b"}").text("foo").int(3).raw(b"stRs").stop());
    assert_eq!(values(&mut open(&bytes).unwrap(), "w"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn a_tensor_of_a_subclass() {
    // torch.arange(..).as_subclass(Mine)
    let mut pickle = Pickle::new();
    pickle.raw(b"}").text("w").global("torch._tensor", "_rebuild_from_type_v2").raw(b"(");
    pickle.global("torch._utils", "_rebuild_tensor_v2").global("mine", "Tensor").raw(b"(");
    pickle.storage("FloatStorage", "0", 6).int(0).ints(&[6]).ints(&[1]).raw(b"\x89").ordered();
    let bytes = archive(&pickle.raw(b"tNtRs").stop());
    assert_eq!(values(&mut open(&bytes).unwrap(), "w"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

/// `_rebuild_tensor_v3`, for a storage of bytes and a type.
fn of_type(bytes: i64, shape: &[i64], class: &str) -> Vec<u8> {
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("a").global("torch._utils", "_rebuild_tensor_v3").raw(b"((").text("storage");
    pickle.global("torch.storage", "UntypedStorage").text("0").text("cpu").int(bytes).raw(b"tQ").int(0).ints(shape);
    pickle.ints(&[1]).raw(b"\x89").ordered().global("torch", class).raw(b"tRu");
    archive(&pickle.stop())
}

#[test]
fn a_tensor_that_says_its_type() {
    assert_eq!(values(&mut open(&of_type(24, &[6], "float32")).unwrap(), "a"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let error = open(&of_type(24, &[12], "uint16")).unwrap().read("a", &mut [0.0; 12]).unwrap_err();
    assert!(error.to_string().contains("`a` is uint16"), "{error}");
    refused!(of_type(24, &[7], "float32"), Damaged, "which has 6 elements");
    refused!(of_type(24, &[13], "uint16"), Damaged, "which has 12 elements");
    refused!(of_type(24, &[6], "float33"), Unsupported, "has no named tensors");
}

#[test]
fn tensors_that_are_not_their_storage_are_not_found() {
    // A sparse one: its indices and values are tensors inside of a foreign object.
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("sparse").global("torch._utils", "_rebuild_sparse_tensor").raw(b"X\x01\0\0\0l(");
    pickle.tensor(SIX).tensor(SIX).raw(b"t\x86R").text("w").tensor(SIX);
    assert_eq!(names(&open(&archive(&pickle.raw(b"u").stop())).unwrap()), ["w"]);
}

/// A module of these attributes: `{"_parameters": {..}, "_buffers": {}, "_modules": {..}}`.
fn module(pickle: &mut Pickle, class: &str, parameter: &str, inner: impl FnOnce(&mut Pickle)) {
    pickle.global("net", class).raw(b")\x81}(").text("training").raw(b"\x88").text("_parameters").raw(b"}");
    pickle.text(parameter).tensor(SIX).raw(b"s").text("_buffers").raw(b"}").text("_modules").raw(b"}");
    inner(pickle);
    pickle.text("name").text("x").raw(b"ub");
}

#[test]
fn a_whole_module_is_read_by_its_state() {
    let mut pickle = Pickle::new();
    module(&mut pickle, "Net", "weight", |pickle| {
        pickle.text("inner");
        module(pickle, "Inner", "bias", |_| {});
        pickle.raw(b"s");
    });
    let mut file = open(&archive(&pickle.stop())).unwrap();
    assert_eq!(names(&file), ["weight", "inner.bias"]);
    assert_eq!(values(&mut file, "inner.bias"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn an_object_without_tensors_is_called_by_its_name() {
    let message = refused!(
        archive(&Pickle::new().global("mine", "Model").raw(b")\x81}b").stop()),
        Unsupported,
        "the saved object is"
    );
    assert!(message.contains("is an object of `mine.Model`"), "{message}");
}

#[test]
fn tensors_under_the_same_storage_and_tied_names() {
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("a").tensor(SIX).raw(b"r\0\x01\0\0").text("tied").raw(b"j\0\x01\0\0");
    pickle.text("b").tensor(Described { offset: 2, shape: &[2], strides: &[3], ..SIX });
    let mut file = open(&forge::zip(&forge::members(&pickle.raw(b"u").stop(), &[&one_to(6)]))).unwrap();
    assert_eq!(values(&mut file, "b"), [3.0, 6.0]);
    assert_eq!(values(&mut file, "a"), values(&mut file, "tied"));
}
