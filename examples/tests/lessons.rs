//! Every lesson runs, and says what it teaches.

use std::process::Command;

/// What a lesson prints.
fn printed(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{}", text(output.stderr));
    text(output.stdout)
}

/// The number behind `before`, in the last line that has it.
fn number(text: &str, before: &str) -> f64 {
    let (_, after) = text.rsplit_once(before).unwrap_or_else(|| panic!("no {before:?} in {text}"));
    let digits = after.trim_start().split(|c: char| !c.is_ascii_digit() && c != '.').next();
    digits.unwrap().parse().unwrap_or_else(|_| panic!("no number behind {before:?} in {text}"))
}

#[test]
fn a_variant_is_a_declaration() {
    let text = printed(env!("CARGO_BIN_EXE_01-declare"), &[]);
    // Stem, two blocks, downsampling and head, counted by hand.
    let block = |dim: u64, kernel: u64| kernel * kernel * dim + 3 * dim + 8 * dim * dim + 4 * dim + 8 * dim + dim;
    let parameters = (4 * 16 + 3 * 16) + block(16, 7) + (2 * 16 + 4 * 16 * 32 + 32) + block(32, 7) + (2 * 32 + 66);
    assert!(text.contains("Small: [3, 16, 16, 1] -> [3, 2]"), "{text}");
    assert!(text.contains(&format!("{parameters} parameters")), "{parameters}: {text}");
    assert!(text.contains("removes 2 of 4 patches"), "{text}");
}

#[test]
fn pre_training_costs_less_than_classification() {
    let text = printed(env!("CARGO_BIN_EXE_02-cost"), &[]);
    let all: Vec<&str> = text.lines().filter(|line| line.starts_with("all")).collect();
    let cost = |line: &str| number(line, "parameters ");
    assert!(all.len() == 2 && cost(all[1]) < cost(all[0]), "{text}");
    assert!(text.contains("4 of 16 patches") && text.contains("16 x 16 cells of 4 pixels"), "{text}");
}

#[test]
fn stripes_are_learnt() {
    let text = printed(env!("CARGO_BIN_EXE_03-train"), &[]);
    assert!(number(&text, "held out: ") >= 95.0, "{text}");
}

#[test]
fn weights_of_timm_are_recognised() {
    let text = printed(env!("CARGO_BIN_EXE_04-weights"), &[]);
    assert!(text.contains("laid out as timm") && text.contains("stem.0.weight [40, 3, 4, 4]"), "{text}");
    assert!(text.contains("encoder.stem.conv.weight [4, 4, 3, 40]"), "{text}");
}

#[test]
fn a_sample_looks_the_same_in_the_same_epoch() {
    let text = printed(env!("CARGO_BIN_EXE_05-shards"), &[]);
    assert!(text.contains("stripes-000002.tar") && text.contains("100 samples of [\"lying\", \"standing\"]"), "{text}");
    let epochs: Vec<&str> = text.lines().filter_map(|line| line.split_once("begins with")).map(|line| line.1).collect();
    assert!(epochs.len() == 3 && epochs[0] == epochs[2] && epochs[0] != epochs[1], "{text}");
}

#[test]
fn features_of_one_class_are_neighbours() {
    let text = printed(env!("CARGO_BIN_EXE_06-features"), &[]);
    assert_eq!(text.matches("is nearest to").count(), 12, "{text}");
    let last = text.lines().last().unwrap();
    assert!(last.ends_with(" of 12 are of one class with their neighbour"), "{text}");
    let agree: u32 = last.split(' ').next().unwrap().parse().unwrap();
    assert!(agree >= 9, "{text}");
}

#[test]
fn a_task_of_one_s_own_is_learnt_and_has_every_command() {
    let program = env!("CARGO_BIN_EXE_07-own-task");
    let text = printed(program, &[]);
    assert!(number(&text, "step 59: squared error ") < 0.1 * number(&text, "step  0: squared error "), "{text}");
    assert!(printed(program, &["models"]).contains("lightness"));
    let summary = printed(program, &["summary", "lightness"]);
    assert!(summary.starts_with("lightness: ConvNeXt V2") && summary.contains("\nhead "), "{summary}");
}
