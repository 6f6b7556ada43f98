//! `predict`: what it works on, and what it leaves.

mod common;

use std::fs;

use common::{Folder, Said, read_npy};

/// A folder with a trained classifier, and pictures of which one is none.
fn place() -> Folder {
    let folder = Folder::new();
    folder.idx(12);
    let pack = "pack --images @images.idx --labels @labels.idx --output @train --class-names a,b,c";
    assert_eq!(folder.run(pack).code, 0);
    let recipe =
        "seed = 3\n[model]\nname = 'micro'\n[finetune]\nepochs = 1\nbatch = 4\nbase_lr = 0.01\nstart = 'scratch'\n";
    fs::write(folder.path("fine.toml"), recipe).unwrap();
    let train = "finetune --recipe @fine.toml --device cpu --data @train-*.tar --out @run";
    assert_eq!(folder.run(train).code, 0);
    for (at, name) in
        ["photos/one.png", "photos/deep/two, \"2\".pgm", "photos/.hidden.png", "other.pgm"].iter().enumerate()
    {
        let path = folder.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixels: Vec<u8> = (0..784).map(|pixel| (pixel * (at + 3) % 251) as u8).collect();
        fs::write(path, [&b"P5\n28 28\n255\n"[..], &pixels].concat()).unwrap();
    }
    fs::write(folder.path("photos/notes.txt"), "no picture").unwrap();
    fs::write(folder.path("photos/broken.jpg"), "no picture either").unwrap();
    folder
}

fn predict(folder: &Folder, more: &str) -> Said {
    folder.run(&format!("predict --weights @run --device cpu {more}"))
}

#[test]
fn folders_patterns_and_lists_are_taken_and_bad_files_told_at_the_end() {
    let folder = place();
    let said = predict(&folder, "@photos @none.png @oth*.pgm --csv --top 2");
    assert_eq!(said.code, 1, "{said:?}");
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!((lines[0], lines.len()), ("image,rank,class,name,probability", 1 + 3 * 2), "{said:?}");
    assert!(lines[1].contains("two, \"\"2\"\".pgm\",1,") && lines[1].starts_with('"'), "{}", lines[1]);
    assert!(lines[3].contains("one.png,1,") && lines[5].contains("other.pgm,1,") && !said.out.contains("hidden"));
    let end: Vec<&str> = said.error.lines().rev().take(4).collect();
    assert!(end[3].contains("3 images in ") && end[2].contains("2 of 5 images"), "{said:?}");
    assert!(end[1].contains("broken.jpg") && end[0].contains("none.png"), "{said:?}");
    assert!(said.error.contains("not those of images: 1"), "{said:?}");

    fs::write(folder.path("list.txt"), format!("{}\n\n", folder.path("other.pgm").display())).unwrap();
    let listed = predict(&folder, "--list @list.txt --json --top 1").json();
    assert!(listed["image"].as_str().unwrap().ends_with("other.pgm") && listed["names"][0].is_string(), "{listed}");
    predict(&folder, "").failed(2, &["no images", "--list"]);
    predict(&folder, "@empty*.png").failed(1, &["no file matches"]);
    predict(&folder, "@other.pgm --sheet @sheet.png").failed(2, &["ends in .html"]);
}

/// Several at once and one alone: the same answers, in the same order; a row of features for each that has one.
#[test]
fn batches_pages_and_features_hold_the_same_images() {
    let folder = place();
    let all =
        predict(&folder, "@other.pgm @photos/broken.jpg @photos/one.png --json --embeddings @z.npy --sheet @s.html");
    assert_eq!(all.code, 1, "{all:?}");
    let lines: Vec<serde_json::Value> = all.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[1]["error"].is_string() && lines.len() == 3, "{all:?}");
    let (shape, features) = read_npy(&folder.path("z.npy"));
    assert_eq!((shape, features.len()), (vec![2, 128], 256));
    for (line, row, name) in [(0, 0, "@other.pgm"), (2, 1, "@photos/one.png")] {
        let alone = predict(&folder, &format!("{name} --json --embeddings @one.npy")).json();
        assert_eq!(
            (&alone["image"], alone["classes"][0][0].as_u64()),
            (&lines[line]["image"], lines[line]["classes"][0][0].as_u64())
        );
        // The head's product of one row is another than that of two, so that the last digit may differ.
        let likeliest = |line: &serde_json::Value| line["classes"][0][1].as_f64().unwrap();
        assert!((likeliest(&alone) - likeliest(&lines[line])).abs() < 1e-6, "{alone}");
        let alone = read_npy(&folder.path("one.npy")).1;
        assert!(alone.iter().zip(&features[row * 128..][..128]).all(|(one, both)| (one - both).abs() < 1e-4));
    }
    let page = fs::read_to_string(folder.path("s.html")).unwrap();
    assert_eq!(page.matches("<figure>").count(), 2);
    assert!(page.contains("one.png") && !page.contains("broken.jpg"));
}
