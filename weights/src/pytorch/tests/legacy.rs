//! Lies of the older format.

use super::{
    Problem, PytorchFile, Section, file,
    forge::{self, Described, Legacy, Pickle, SIX},
    one_to, open, refusal, refused, small_legacy, values,
};

fn changed(change: impl FnOnce(&mut Legacy)) -> Vec<u8> {
    let mut legacy = small_legacy();
    change(&mut legacy);
    legacy.bytes()
}

#[test]
fn another_version() {
    let bytes = changed(|legacy| legacy.version = Pickle::new().int(1000).stop());
    refused!(bytes, Damaged, "the version is not what torch.save writes");
}

#[test]
fn no_description_of_the_machine() {
    let bytes = changed(|legacy| legacy.machine = Pickle::new().raw(b"}").stop());
    refused!(bytes, Damaged, "the description of the machine is not what torch.save writes");
}

#[test]
fn a_big_endian_machine() {
    let bytes = changed(|legacy| legacy.machine = forge::machine(false));
    refused!(bytes, Unsupported, "byte order `");
}

#[test]
fn no_list_of_storages() {
    let bytes = changed(|legacy| legacy.keys = Pickle::new().raw(b"}").stop());
    refused!(bytes, Damaged, "the list of storages is not what torch.save writes");
    let bytes = changed(|legacy| legacy.keys = Pickle::new().raw(b"]").ordered().raw(b"a").stop());
    refused!(bytes, Damaged, "the list of storages is not what torch.save writes");
}

fn six(keys: &[&str], storages: &[(i64, &[u8])]) -> Vec<u8> {
    let object = Pickle::legacy().raw(b"}").text("a").tensor(SIX).raw(b"s").stop();
    Legacy::new(object, keys, storages).bytes()
}

#[test]
fn a_storage_that_is_not_listed() {
    refused!(six(&[], &[]), CutOff, "is not in the file");
}

#[test]
fn a_storage_that_nobody_has() {
    let data = one_to(6);
    refused!(six(&["0", "77"], &[(6, &data), (6, &data)]), Forged, "storage `77` is in the file, and no tensor's");
}

#[test]
fn a_storage_that_is_listed_twice() {
    let data = one_to(6);
    refused!(six(&["0", "0"], &[(6, &data), (6, &data)]), Forged, "storage `0` is listed twice");
}

#[test]
fn a_storage_of_another_length() {
    refused!(six(&["0"], &[(5, &one_to(5))]), CutOff, "has 20 bytes where");
    refused!(six(&["0"], &[(-1, &one_to(6))]), CutOff, "has 18446744073709551615 bytes where");
}

#[test]
fn a_storage_that_is_cut_off() {
    refused!(six(&["0"], &[(6, &one_to(5))]), CutOff, "has 20 bytes where");
    refused!(six(&["0"], &[]), CutOff, "ends too early");
}

#[test]
fn bytes_after_the_last_storage() {
    refused!(six(&["0"], &[(6, &one_to(8))]), Forged, "is followed by 8 bytes");
}

#[test]
fn a_view_of_another_storage() {
    let mut object = Pickle::new();
    object.raw(b"}(").text("storage").global("torch", "FloatStorage").text("0").text("cpu").int(6);
    object.text("1").int(0).int(6).raw(b"\x87tQ");
    let bytes = Legacy::new(object.stop(), &[], &[]).bytes();
    refused!(bytes, Unsupported, "refers to a storage by a view of another storage");
}

#[test]
fn a_tensor_that_is_strewn_over_gigabytes() {
    // A hole in a file takes no space.
    let elements: u32 = (1 << 28) + 2;
    let ends = [i64::from(elements) - 1];
    let tensor = Described { class: "HalfStorage", elements: elements.into(), shape: &[2], strides: &ends, ..SIX };
    let object = Pickle::legacy().raw(b"}").text("a").tensor(tensor).raw(b"s").stop();
    let start = Legacy::new(object, &["0"], &[(elements.into(), &[])]).bytes();
    let hole = file(&start);
    hole.as_file().set_len(start.len() as u64 + 2 * u64::from(elements)).unwrap();
    let error = PytorchFile::open(hole.path(), Section::Best).unwrap().read("a", &mut [0.0; 2]).unwrap_err();
    assert!(matches!(error.problem, Problem::NotContiguous { .. }), "{error:?}");
}

#[test]
fn a_shared_storage_is_read_for_both() {
    let mut object = Pickle::legacy();
    object.raw(b"}(").text("a").tensor(SIX);
    object.text("b").tensor(Described { offset: 2, shape: &[2], strides: &[3], ..SIX });
    let data = one_to(6);
    let mut file = open(&Legacy::new(object.raw(b"u").stop(), &["0"], &[(6, &data)]).bytes()).unwrap();
    assert_eq!(values(&mut file, "a"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(values(&mut file, "b"), [3.0, 6.0]);
}
