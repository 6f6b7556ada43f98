//! The guide: its links, and the path from photographs to a result as a newcomer walks it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pulldown_cmark::{Event, Parser, Tag};

/// Runs `tests/guide/run`, which says what it needs:
/// `cargo build --release -p convnext && cargo test --release -p convnext-tests --test guide -- --ignored --nocapture`.
#[test]
#[ignore = "needs Python and network, and some minutes: see docs/proof.md"]
fn photographs_become_predictions_and_models_that_load_elsewhere() {
    let status = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/guide/run")).status().unwrap();
    assert!(status.success(), "a command or a check failed; what was printed above says which");
}

/// Runs `tests/book/run`, which compiles mdBook first.
#[test]
#[ignore = "compiles mdBook, which needs network: see docs/proof.md"]
fn the_guide_becomes_a_book() {
    let status = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/book/run")).status().unwrap();
    assert!(status.success(), "the book is not whole; what was printed above says why");
}

/// The folder of the repository.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn pages(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "md"))
}

/// Where the links of a page lead, code left out.
fn links(page: &str) -> Vec<String> {
    Parser::new(page)
        .filter_map(|event| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => Some(dest_url.into_string()),
            _ => None,
        })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages(root()).chain(pages(&root().join("docs"))) {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let file = link.split('#').next().unwrap();
            if !file.is_empty() && !page.with_file_name(file).exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_chapter_is_in_the_summary_once() {
    let docs = root().join("docs");
    let mut listed = links(&fs::read_to_string(docs.join("SUMMARY.md")).unwrap());
    listed.sort();
    let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let mut there: Vec<String> = pages(&docs).map(name).filter(|name| name != "SUMMARY.md").collect();
    there.sort();
    assert_eq!(listed, there);
}
