//! Lies of the zip archive.

use super::{
    PytorchError, check_small,
    forge::{self, Member, SIX},
    refusal, refused, small_archive, small_members,
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
fn a_compressed_entry() {
    let message = refused!(changed("data/0", |m| m.method = 8), PytorchError::Compressed { method: 8, .. });
    assert!(message.contains("small.zip/data/0"), "{message}");
}

#[test]
fn an_encrypted_entry() {
    let message = refused!(changed("data.pkl", |m| m.flags |= 1), PytorchError::Encrypted { .. });
    assert!(message.contains("small.zip/data.pkl"), "{message}");
}

#[test]
fn names_that_lead_elsewhere() {
    for name in ["../x", "small.zip/../x", "/small.zip/x", "small.zip//x", "small.zip/./x", "a\\b/x", "x", "a/b\0"] {
        refused!(with(Member::new(name, b"")), PytorchError::EntryName { .. });
    }
    refused!(with(Member::new(&format!("a/{}", "x".repeat(1100)), b"")), PytorchError::EntryName { .. });
}

#[test]
fn names_are_printed_without_control_characters() {
    let message = refused!(with(Member::new("../\u{1b}[2J", b"")), PytorchError::EntryName { .. });
    assert!(!message.contains('\u{1b}'), "{message}");
}

#[test]
fn two_entries_of_one_name() {
    refused!(with(Member::new("small.zip/data/0", b"")), PytorchError::EntryTwice { .. });
}

#[test]
fn entries_that_are_folders() {
    refused!(with(Member::new("small.zip/data/", b"x")), PytorchError::EntryFolder { .. });
    refused!(with(Member::new("small.zip/data/0/more", b"")), PytorchError::EntryFolder { .. });
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
        (&["readme.txt", "best/model.pth"], "`best/model.pth`; unpack it and give that file"),
        (&["word/document.xml"], "1 files such as `word/document.xml`"),
    ] {
        let members: Vec<_> = names.iter().map(|name| Member { method: 8, ..Member::new(name, b"x") }).collect();
        let message = refused!(forge::zip(&members), PytorchError::NoPickle { .. });
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn two_folders() {
    refused!(with(Member::new("other/data.pkl", b"")), PytorchError::Folders { .. });
}

#[test]
fn an_entry_that_leaves_the_archive() {
    refused!(changed("data/0", |m| m.len = Some(5000)), PytorchError::EntryRange { .. });
    refused!(changed("data/0", |m| m.header = Some(u32::MAX - 1)), PytorchError::EntryRange { .. });
}

#[test]
fn an_entry_over_another() {
    refused!(changed("data/0", |m| m.len = Some(100)), PytorchError::EntryOverlap { .. });
}

#[test]
fn an_entry_with_two_names() {
    refused!(changed("data/0", |m| m.own_name = Some("small.zip/data/9".into())), PytorchError::EntryMismatch { .. });
}

#[test]
fn an_entry_without_a_header() {
    refused!(changed("data/0", |m| m.header = Some(1)), PytorchError::EntryMismatch { .. });
}

#[test]
fn large_lengths_without_their_field() {
    refused!(changed("data/0", |m| m.len = Some(u32::MAX)), PytorchError::Directory(_));
}

#[test]
fn another_number_of_entries() {
    // In both records: of the end, and of the end for large archives.
    let mut archive = small_archive();
    let (small, large) = (archive.len() - 22 + 8, archive.len() - 98 + 24);
    archive[small..small + 4].copy_from_slice(&[9, 0, 9, 0]);
    archive[large] = 9;
    archive[large + 8] = 9;
    refused!(archive, PytorchError::Directory(_));
}

#[test]
fn an_end_that_contradicts_itself() {
    refused!(patched(6, &[1, 0, 0, 0]), PytorchError::DirectoryPlace(_));
    refused!(patched(22 + 12, &[1, 0, 0, 0]), PytorchError::DirectoryPlace(_));
}

#[test]
fn a_directory_beyond_all_memory() {
    // Only the record for large archives can say so; the other one then holds all ones.
    let mut archive = patched(10, &[0xff; 8]);
    let (len, start) = (archive.len() - 98 + 40, archive.len() - 98 + 48);
    let place = (archive.len() - 98) as u64;
    archive[len..len + 8].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    archive[start..start + 8].copy_from_slice(&place.wrapping_sub(1 << 40).to_le_bytes());
    refused!(archive, PytorchError::DirectoryPlace(_));

    // A true one: a hole in a file takes no space.
    let cap = forge::zip(&[Member::new("a/data.pkl", &vec![0; 17 << 20])]);
    let (mut archive, end) = (cap.clone(), cap.len() - 98);
    archive[end + 40..end + 48].copy_from_slice(&(end as u64).to_le_bytes());
    archive[end + 48..end + 56].copy_from_slice(&[0; 8]);
    let small = archive.len() - 10;
    archive[small..small + 8].copy_from_slice(&[0xff; 8]);
    refused!(archive, PytorchError::DirectoryTooLarge { .. });
}

#[test]
fn an_archive_that_is_cut_off() {
    let archive = small_archive();
    refused!(archive[..archive.len() - 1], PytorchError::NoDirectory(_));
    refused!(b"PK\x03\x04", PytorchError::NoDirectory(_));
}

#[test]
fn an_archive_without_a_pickle() {
    refused!(without("data.pkl"), PytorchError::NoPickle { .. });
}

#[test]
fn an_archive_in_the_place_of_the_pickle() {
    refused!(changed("data.pkl", |m| m.data = small_archive()), PytorchError::NestedArchive { .. });
}

#[test]
fn a_program() {
    refused!(with(Member::new("small.zip/constants.pkl", b"\x80\x02).")), PytorchError::TorchScript { .. });
    let code = Member { method: 8, ..Member::new("small.zip/code/__torch__.py", b"") };
    refused!(with(code), PytorchError::TorchScript { .. });
}

#[test]
fn a_big_endian_file() {
    let message = refused!(changed("byteorder", |m| m.data = b"big".to_vec()), PytorchError::ByteOrder { .. });
    assert!(message.contains("`big`"), "{message}");
    refused!(changed("byteorder", |m| m.data = [b'x'; 1000].to_vec()), PytorchError::ByteOrder { .. });
}

#[test]
fn bytes_after_the_pickle() {
    refused!(changed("data.pkl", |m| m.data.extend(b"more")), PytorchError::Leftover { bytes: 4, .. });
}

#[test]
fn a_storage_that_is_missing() {
    let message = refused!(without("data/0"), PytorchError::StorageMissing { .. });
    assert!(message.contains("`0`"), "{message}");
}

#[test]
fn a_storage_of_another_length() {
    let bytes = changed("data/0", |m| m.data.truncate(23));
    refused!(bytes, PytorchError::StorageLength { elements: 6, found: 23, .. });
}

#[test]
fn ten_gigabytes_that_are_not_there() {
    let huge = 10 << 30;
    let tensor = forge::Described { elements: huge, shape: &[10 << 30], strides: &[1], ..SIX };
    refused!(super::with_tensor(tensor), PytorchError::StorageLength { found: 24, .. });
    let tensor = forge::Described { key: "5", ..tensor };
    refused!(super::with_tensor(tensor), PytorchError::StorageMissing { .. });
}

#[test]
fn no_entries_at_all() {
    refused!(b"PK\x03\x04PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\x04\0\0\0\0\0", PytorchError::NoPickle { .. });
}
