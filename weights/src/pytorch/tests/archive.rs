//! Lies of the zip archive.

use std::io::{Seek, SeekFrom, Write};

use super::{
    Problem, PytorchFile, Section, check_small, file,
    forge::{self, Described, Member, Pickle, SIX},
    one_to, refusal, refused, small_archive, small_members, values,
};

/// The small archive with its entry `name` changed.
fn changed(name: &str, change: impl FnOnce(&mut Member)) -> Vec<u8> {
    let mut members = small_members();
    change(members.iter_mut().find(|member| member.name.ends_with(name)).unwrap());
    forge::zip(&members)
}

fn with(member: Member) -> Vec<u8> {
    let mut members = small_members();
    members.push(member);
    forge::zip(&members)
}

fn without(name: &str) -> Vec<u8> {
    let mut members = small_members();
    members.retain(|member| !member.name.ends_with(name));
    forge::zip(&members)
}

/// The small archive with four bytes changed, counted from the end.
fn patched(from_end: usize, bytes: &[u8]) -> Vec<u8> {
    let mut archive = small_archive();
    let place = archive.len() - from_end;
    archive[place..place + bytes.len()].copy_from_slice(bytes);
    archive
}

#[test]
fn early_files_lack_the_byte_order() {
    check_small(&without("byteorder"));
}

#[test]
fn more_than_four_gigabytes() {
    const HOLE: i64 = (4 << 30) + 64;
    let big = Described { class: "ByteStorage", elements: HOLE, shape: &[HOLE], strides: &[1], ..SIX };
    let mut pickle = Pickle::new();
    pickle.raw(b"}(").text("big").tensor(big).text("behind").tensor(Described { key: "1", ..SIX });
    let [before, after] = forge::large(&pickle.raw(b"u").stop(), HOLE as u64, &one_to(6));
    // A hole in a file takes no space.
    let mut file = file(&before);
    file.seek(SeekFrom::Current(HOLE)).unwrap();
    file.write_all(&after).unwrap();
    let mut opened = PytorchFile::open(file.path(), Section::Best).unwrap();
    assert_eq!(opened.tensors().collect::<Vec<_>>(), [("big", &[HOLE as usize][..]), ("behind", &[2, 3])]);
    assert_eq!(values(&mut opened, "behind"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn a_compressed_entry() {
    let message = refused!(changed("data/0", |m| m.method = 8), Compressed, "is compressed (Deflated)");
    assert!(message.contains("small.zip/data/0"), "{message}");
}

#[test]
fn an_encrypted_entry() {
    let message = refused!(changed("data.pkl", |m| m.flags |= 1), Encrypted, "is encrypted");
    assert!(message.contains("small.zip/data.pkl"), "{message}");
}

#[test]
fn names_that_lead_elsewhere() {
    for name in ["../x", "small.zip/../x", "/small.zip/x", "small.zip//x", "small.zip/./x", "a\\b/x", "x", "a/b\0"] {
        refused!(with(Member::new(name, b"")), Forged, "has a name that is not one");
    }
    refused!(with(Member::new(&format!("a/{}", "x".repeat(1100)), b"")), Forged, "has a name that is not one");
}

#[test]
fn names_are_printed_without_control_characters() {
    let message = refused!(with(Member::new("../\u{1b}[2J", b"")), Forged, "has a name that is not one");
    assert!(!message.contains('\u{1b}'), "{message}");
}

#[test]
fn two_entries_of_one_name() {
    refused!(with(Member::new("small.zip/data/0", b"")), Forged, "has two entries of one name");
}

#[test]
fn entries_that_are_folders() {
    refused!(with(Member::new("small.zip/data/", b"x")), Forged, "is a folder with content of its own");
    refused!(
        with(Member::new("small.zip/data/0/more", b"")),
        Forged,
        "entry `small.zip/data/0` is a file and a folder"
    );
}

#[test]
fn folders_that_another_packer_lists() {
    check_small(&with(Member::new("small.zip/data/", b"")));
}

#[test]
fn archives_of_other_things() {
    for (names, expected) in [
        (&["a.npy", "b.npy"][..], "arrays of numpy"),
        (&["config.json", "model.weights.h5"], "a model of Keras"),
        (&["net/archive_format", "net/models/model.json"], "a program of torch.export"),
        (&["readme.txt", "best/model.pth"], "`best/model.pth`: unpack it and give that file"),
        (&["word/document.xml"], "1 files such as `word/document.xml`"),
    ] {
        let members: Vec<_> = names.iter().map(|name| Member { method: 8, ..Member::new(name, b"x") }).collect();
        let message = refused!(forge::zip(&members), OtherArchive, "it holds");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn two_folders() {
    refused!(with(Member::new("other/data.pkl", b"")), Unsupported, "has the folders `small.zip` and `other`");
}

#[test]
fn an_entry_that_leaves_the_archive() {
    refused!(changed("data/0", |m| m.len = Some(5000)), CutOff, "reaches beyond the archive's data");
    refused!(changed("data/0", |m| m.header = Some(u32::MAX - 1)), CutOff, "reaches beyond the archive's data");
}

#[test]
fn an_entry_over_another() {
    refused!(changed("data/0", |m| m.len = Some(100)), Forged, "shares bytes with entry");
}

#[test]
fn an_entry_with_two_names() {
    refused!(
        changed("data/0", |m| m.own_name = Some("small.zip/data/9".into())),
        Damaged,
        "is another one in the archive's directory"
    );
}

#[test]
fn an_entry_with_a_second_name_for_some_programs() {
    // The field that says an entry's name once more, in Unicode.
    let name = b"small.zip/data/9";
    let field = [b"\x75\x70", &[5 + name.len() as u8, 0, 1, 0, 0, 0, 0][..], name].concat();
    let second = |m: &mut Member| (m.flags, m.extra) = (8, field);
    refused!(changed("data/0", second), Forged, "entry `small.zip/data/0` has a second name");
}

#[test]
fn an_entry_without_a_header() {
    refused!(changed("data/0", |m| m.header = Some(1)), Damaged, "is another one in the archive's directory");
}

#[test]
fn large_lengths_without_their_field() {
    refused!(changed("data/0", |m| m.len = Some(u32::MAX)), CutOff, "reaches beyond the archive's data");
}

#[test]
fn another_number_of_entries() {
    for count in [9, 7, 1] {
        // In both records: of the end, and of the end for large archives.
        let mut archive = small_archive();
        let (small, large) = (archive.len() - 22 + 8, archive.len() - 98 + 24);
        archive[small..small + 4].copy_from_slice(&[count, 0, count, 0]);
        archive[large] = count;
        archive[large + 8] = count;
        refused!(archive, Damaged, "not a list of its entries");
    }
}

#[test]
fn an_end_that_contradicts_itself() {
    refused!(patched(6, &[1, 0, 0, 0]), Forged, "says two things about where its directory is");
    refused!(patched(22 + 12, &[1, 0, 0, 0]), Forged, "says two things about where its directory is");
}

#[test]
fn a_directory_beyond_all_memory() {
    // Only the record for large archives can say so; the other one then holds all ones.
    let mut archive = patched(10, &[0xff; 8]);
    let (len, start) = (archive.len() - 98 + 40, archive.len() - 98 + 48);
    let place = (archive.len() - 98) as u64;
    archive[len..len + 8].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    archive[start..start + 8].copy_from_slice(&place.wrapping_sub(1 << 40).to_le_bytes());
    refused!(archive, Forged, "says two things about where its directory is");

    // A true one: a hole in a file takes no space.
    let cap = forge::zip(&[Member::new("a/data.pkl", &vec![0; 17 << 20])]);
    let (mut archive, end) = (cap.clone(), cap.len() - 98);
    archive[end + 40..end + 48].copy_from_slice(&(end as u64).to_le_bytes());
    archive[end + 48..end + 56].copy_from_slice(&[0; 8]);
    let small = archive.len() - 10;
    archive[small..small + 8].copy_from_slice(&[0xff; 8]);
    refused!(archive, TooLarge, "has a directory of");
}

#[test]
fn an_archive_that_is_cut_off() {
    let archive = small_archive();
    refused!(archive[..archive.len() - 1], CutOff, "does not end as");
    refused!(b"PK\x03\x04", CutOff, "does not end as");
}

#[test]
fn an_archive_without_a_pickle() {
    refused!(without("data.pkl"), OtherArchive, "it holds");
}

#[test]
fn an_archive_in_the_place_of_the_pickle() {
    refused!(changed("data.pkl", |m| m.data = small_archive()), OtherArchive, "is an archive itself");
}

#[test]
fn a_program() {
    refused!(with(Member::new("small.zip/constants.pkl", b"\x80\x02).")), Unsupported, "is a TorchScript program");
    let code = Member { method: 8, ..Member::new("small.zip/code/__torch__.py", b"") };
    refused!(with(code), Unsupported, "is a TorchScript program");
}

#[test]
fn a_big_endian_file() {
    let message = refused!(changed("byteorder", |m| m.data = b"big".to_vec()), Unsupported, "byte order `");
    assert!(message.contains("`big`"), "{message}");
    refused!(changed("byteorder", |m| m.data = [b'x'; 1000].to_vec()), Unsupported, "byte order `");
}

#[test]
fn bytes_after_the_pickle() {
    refused!(changed("data.pkl", |m| m.data.extend(b"more")), Forged, "is followed by 4 bytes");
}

#[test]
fn a_storage_that_is_missing() {
    let message = refused!(without("data/0"), CutOff, "is not in the file");
    assert!(message.contains("`0`"), "{message}");
}

#[test]
fn a_storage_of_another_length() {
    let bytes = changed("data/0", |m| m.data.truncate(23));
    refused!(bytes, CutOff, "has 23 bytes where");
}

#[test]
fn ten_gigabytes_that_are_not_there() {
    let huge = 10 << 30;
    let tensor = forge::Described { elements: huge, shape: &[10 << 30], strides: &[1], ..SIX };
    refused!(super::with_tensor(tensor), CutOff, "has 24 bytes where");
    let tensor = forge::Described { key: "5", ..tensor };
    refused!(super::with_tensor(tensor), CutOff, "is not in the file");
}

#[test]
fn no_entries_at_all() {
    refused!(b"PK\x03\x04PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\x04\0\0\0\0\0", OtherArchive, "it holds");
}
