//! The compiler on tokens: plans against the published table, messages, and emitted items. What rustc makes of
//! them is tested where `convnext_core` is at hand.

use crate::error::Errors;
use crate::plan::Plan;
use crate::{check, compile, parse};
use proc_macro2::TokenStream;
use std::time::Instant;

/// The plans of a block's models, or the messages of its mistakes.
fn plans(text: &str) -> Result<Vec<Plan>, Vec<String>> {
    let mut errors = Errors::default();
    let mut spec = parse::spec(text.parse().expect("tokens"), &mut errors);
    check::names(&mut spec, &mut errors);
    check::values(&mut spec, &mut errors);
    let models: Vec<_> = spec.models.iter().map(|model| check::model(model, &spec, &mut errors)).collect();
    let messages = errors.messages();
    if !messages.is_empty() {
        return Err(messages);
    }
    Ok(models.into_iter().map(|model| Plan::new(&model.expect("no mistakes"))).collect())
}

fn plan(text: &str) -> Plan {
    let mut plans = plans(text).unwrap_or_else(|messages| panic!("{}", messages.join("\n")));
    assert_eq!(plans.len(), 1);
    plans.remove(0)
}

fn messages(text: &str) -> Vec<String> {
    plans(text).expect_err("a mistake")
}

/// The paper's stem, head and pre-training on square images, with these stages.
fn paper(size: u64, stages: &str) -> String {
    format!("model M {{ input: {size} x {size} x 3, stem: 4, head: 1000, stages: [{stages}], fcmae: {{ patch: 32 }} }}")
}

/// A model that fits, but for what a test adds.
fn small(settings: &str) -> String {
    format!("model M {{ input: 32 x 64 x 3, stem: 4, head: 10, stages: [8 x 1, 16 x 2], {settings} }}")
}

// Plans

const ATTO: &str = "40 x 2, 80 x 2, 160 x 6, 320 x 2";
const FEMTO: &str = "48 x 2, 96 x 2, 192 x 6, 384 x 2";
const PICO: &str = "64 x 2, 128 x 2, 256 x 6, 512 x 2";
const NANO: &str = "80 x 2, 160 x 2, 320 x 8, 640 x 2";
const TINY: &str = "96 x 3, 192 x 3, 384 x 9, 768 x 3";
const BASE: &str = "128 x 3, 256 x 3, 512 x 27, 1024 x 3";
const LARGE: &str = "192 x 3, 384 x 3, 768 x 27, 1536 x 3";
const HUGE: &str = "352 x 3, 704 x 3, 1408 x 27, 2816 x 3";

/// Parameters in millions, as timm's model cards print them.
#[test]
fn parameters_of_the_paper() {
    let table = [
        (ATTO, "3.71"),
        (FEMTO, "5.23"),
        (PICO, "9.07"),
        (NANO, "15.62"),
        (TINY, "28.64"),
        (BASE, "88.72"),
        (LARGE, "197.96"),
        (HUGE, "660.29"),
    ];
    for (stages, parameters) in table {
        let cost = plan(&paper(224, stages)).cost;
        assert_eq!(format!("{:.2}", cost.parameters() as f64 / 1e6), parameters, "{stages}");
    }
}

/// Published multiply-adds (timm's model cards; the last two: the official README), to all their digits.
///
/// They are ours, with five more for each value that a layer normalisation makes: their counter's habit.
#[test]
fn multiply_adds_of_the_paper() {
    let table = [
        (224, ATTO, "0.55"),
        (224, FEMTO, "0.79"),
        (224, PICO, "1.37"),
        (224, NANO, "2.46"),
        (224, TINY, "4.47"),
        (224, BASE, "15.38"),
        (224, LARGE, "34.4"),
        (224, HUGE, "115.0"),
        (384, BASE, "45.2"),
        (512, HUGE, "600.8"),
    ];
    for (size, stages, printed) in table {
        let plan = plan(&paper(size, stages));
        let counted = plan.cost.multiply_adds() + 5 * normalised_values(&plan);
        let digits = printed.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        assert_eq!(format!("{:.digits$}", counted as f64 / 1e9), printed, "{stages} at {size}");
    }
}

/// Values that layer normalisations produce: one after the stem, one a block, one before each downsampling.
fn normalised_values(plan: &Plan) -> u64 {
    let cells = |stage: &crate::plan::StagePlan| stage.height * stage.width * stage.dim;
    plan.stages.iter().map(|stage| cells(stage) * (stage.depth + 1)).sum::<u64>() - cells(plan.last())
        + cells(&plan.stages[0])
}

/// Every tensor of a small model counted by hand.
#[test]
fn parameters_by_hand() {
    let plan = plan("model M { input: 8 x 8 x 3, stem: 2, head: 5, kernel: 3, stages: [2 x 1, 4 x 1] }");
    let stem = (2 * 2 * 3 * 2 + 2) + (2 + 2);
    let block = |dim: u64| {
        (9 * dim + dim) + (dim + dim) + (dim * 4 * dim + 4 * dim) + (4 * dim + 4 * dim) + (4 * dim * dim + dim)
    };
    let downsample = (2 + 2) + (2 * 2 * 2 * 4 + 4);
    let head = (4 + 4) + (4 * 5 + 5);
    assert_eq!(plan.cost.parameters(), stem + block(2) + downsample + block(4) + head);
    assert_eq!(plan.stages[0].cost.parameters(), stem + block(2));
    let stem = 4 * 4 * (2 * 2 * 3 * 2);
    let block = |cells: u64, dim: u64| cells * (9 * dim + 2 * dim * 4 * dim);
    let downsample = 2 * 2 * (2 * 2 * 2 * 4);
    assert_eq!(plan.cost.multiply_adds(), stem + block(16, 2) + downsample + block(4, 4) + 4 * 5);
}

/// V1 has one scale a channel where V2 has two for each of its four hidden ones.
#[test]
fn flavours_differ_in_their_scales() {
    let parameters = |block: &str| plan(&small(&format!("block: {block}"))).cost.parameters();
    let dims = 8 + 2 * 16;
    assert_eq!(parameters("V2") - parameters("V1"), (8 - 1) * dims);
}

#[test]
fn grids_of_a_wide_input() {
    let plan = plan(&small(""));
    let grids: Vec<_> = plan.stages.iter().map(|stage| (stage.height, stage.width)).collect();
    assert_eq!(grids, [(8, 16), (4, 8)]);
    assert_eq!(plan.stride(), 8);
}

#[test]
fn autoencoder_by_hand() {
    let plan = plan(&small("fcmae: { patch: 16, mask: 0.5, decoder: 12 x 2, kernel: 3 }"));
    let fcmae = plan.fcmae.expect("declared");
    assert_eq!((fcmae.patches_high, fcmae.patches_wide, fcmae.visible), (2, 4, 4));
    let head = (16 + 16) + (16 * 10 + 10);
    let densify = (16 * 12 + 12) + 12;
    let block = (9 * 12 + 12) + 24 + (12 * 48 + 48) + 96 + (48 * 12 + 12);
    let prediction = 12 * 192 + 192;
    let encoder = plan.cost.parameters() - head;
    assert_eq!(fcmae.cost.parameters(), encoder + densify + 2 * block + prediction);
    // Half of the cells are visible, so the encoder costs half; the decoder runs on the 4 x 8 grid.
    let encoder = (plan.cost.multiply_adds() - 16 * 10) / 2;
    let decoder = 32 * (2 * (9 * 12 + 2 * 12 * 48) + 12 * 192);
    assert_eq!(fcmae.cost.multiply_adds(), encoder + 16 * 16 * 12 + decoder);
}

/// floor(L * (1 - mask)) in decimals, where binary floating point would often miss by one.
#[test]
fn visible_patches_are_exact() {
    let visible = |input: &str, mask: &str| {
        let text = format!(
            "model M {{ input: {input} x 1, stem: 1, head: 2, stages: [1 x 1], fcmae: {{ patch: 1, mask: {mask} }} }}"
        );
        plan(&text).fcmae.expect("declared").visible
    };
    assert_eq!(visible("7 x 7", "0.6"), 19);
    assert_eq!(visible("1 x 10", "0.3"), 7);
    assert_eq!(visible("1 x 10", "0.9"), 1);
    assert_eq!(visible("10 x 10", "0.71"), 29);
    for tenths in 1..10 {
        assert_eq!(visible("10 x 10", &format!("0.{tenths}")), 100 - 10 * tenths);
    }
}

#[test]
fn drop_path_rises_linearly() {
    let plan = plan(&small("drop_path: 0.3"));
    let rates: Vec<f32> = plan.stages.iter().flat_map(|stage| stage.drop_path.clone()).collect();
    assert_eq!(rates, [0.0, 0.15, 0.3]);
}

#[test]
fn a_lone_block_never_drops() {
    let plan = plan("model M { input: 8 x 8 x 3, stem: 4, head: 10, stages: [8 x 1], drop_path: 0.3 }");
    assert_eq!(plan.stages[0].drop_path, [0.0]);
}

#[test]
fn kernels_differ_by_stage() {
    let text = "model M { input: 32 x 32 x 3, stem: 4, head: 10, kernel: 9, stages: [8 x 1 kernel 3, 16 x 1] }";
    let kernels: Vec<_> = plan(text).stages.iter().map(|stage| stage.kernel).collect();
    assert_eq!(kernels, [3, 9]);
}

// The language

#[test]
fn models_override_their_family_key_by_key() {
    let text = "
        family F { input: 64 x 64 x 3, stem: 4, head: 10, fcmae: { patch: 16, mask: 0.5 } }
        model One: F { stages: [8 x 1, 16 x 1] }
        model Two: F { stages: [8 x 1, 16 x 1], stem: 2, fcmae: { patch: 8 } }
        model Three: F { stages: [8 x 1, 16 x 1], fcmae: none }
    ";
    let plans = plans(text).expect("no mistakes");
    let [one, two, three] = plans.as_slice() else { panic!("three models") };
    let fcmae = |plan: &Plan| plan.fcmae.as_ref().map(|fcmae| (fcmae.patch, fcmae.mask));
    assert_eq!((one.stem, fcmae(one)), (4, Some((16, 0.5))));
    assert_eq!((two.stem, fcmae(two)), (2, Some((8, 0.5))));
    assert_eq!(fcmae(three), None);
}

/// Rust's lexer reads each of these differently.
#[test]
fn products_may_be_written_close() {
    for input in ["32 x 64 x 3", "32x64x3", "32 x64 x3", "32x 64x 3", "32 x64x3", "3_2 x 64 x 3"] {
        let plan = plan(&format!("model M {{ input: {input}, stem: 4, head: 10, stages: [8x1, 16 x2 kernel 3] }}"));
        assert_eq!((plan.height, plan.width, plan.channels), (32, 64, 3), "{input}");
        assert_eq!((plan.stages[1].depth, plan.stages[1].kernel), (2, 3), "{input}");
    }
}

#[test]
fn names_on_the_command_line() {
    let name = |model: &str| crate::names::Names::new(&syn::parse_str(model).expect("a name")).command_line();
    assert_eq!(name("Atto"), "atto");
    assert_eq!(name("AttoV1"), "atto-v1");
    assert_eq!(name("Nano64"), "nano64");
    assert_eq!(name("CIFARNet"), "cifar-net");
    assert_eq!(name("My_Own"), "my-own");
    assert_eq!([name("_Own"), name("A__B"), name("Own_"), name("r#fn"), name("__")], ["own", "a-b", "own", "fn", "__"]);
}

// Messages

#[test]
fn grid_message_has_the_arithmetic_and_the_way_out() {
    let text = "model M { input: 240 x 224 x 3, stem: 4, head: 10, stages: [8 x 1, 8 x 1, 8 x 1, 8 x 1] }";
    assert_eq!(
        messages(text),
        ["stage 3: a grid 15 cells high cannot be halved; 240 / 4 = 60 -> 30 -> 15; \
          the nearest height that works: 224 or 256"]
    );
}

/// Parsing, values, and the way they fit: all in one build.
#[test]
fn every_mistake_in_one_build() {
    let text = "
        model A { input: 30 x 31 x 0, stem: 4, head: 10, sterm: 4, stages: [8 x 1 kernel 6, 8, 16 x 300] }
        model A2: Fam { kernel: 4 }
        model A3 { drop_path: 1.5 stem: }
    ";
    let messages = messages(text);
    assert_eq!(messages.len(), 13, "{}", messages.join("\n"));
}

/// A family's mistake is written once, however many models inherit it.
#[test]
fn inherited_mistakes_are_reported_once() {
    let text = "
        family F { input: 240 x 224 x 3, stem: 4, head: 10, kernel: 4 }
        model A: F { stages: [8 x 1, 8 x 1, 8 x 1, 8 x 1] }
        model A2: F { stages: [8 x 1, 8 x 1, 8 x 1, 8 x 1] }
        model A3: F { stages: [8 x 1] }
    ";
    let messages = messages(text);
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[1].ends_with("(family F, as inherited by models A and A2)"), "{messages:?}");
}

#[test]
fn a_patch_must_fit_and_the_message_says_which_do() {
    let patch = |patch: &str| messages(&small(&format!("fcmae: {{ patch: {patch} }}"))).join("\n");
    assert!(patch("12").contains("total stride 8 (stem 4 x 2)"), "{}", patch("12"));
    assert!(patch("12").ends_with("patches that work: 8 or 16"), "{}", patch("12"));
    assert!(patch("24").contains("height: 32 / 24 = 1.333 or width: 64 / 24 = 2.667"), "{}", patch("24"));
}

#[test]
fn a_mask_must_leave_a_patch() {
    let messages = messages(&small("fcmae: { patch: 16, mask: 0.9 }"));
    assert_eq!(
        messages,
        ["`mask` is 0.9: floor(8 patches x 0.1) = 0 stay visible; the largest share that leaves one is `mask: 0.87`"]
    );
}

// Emission

/// Whatever the mistake, the types are there.
#[test]
fn a_mistaken_model_keeps_its_types() {
    let text = "pub model Atto { input: 1 x 1 x 1, fcmae: { patch: 7 } }";
    let items = compile(text.parse().expect("tokens")).to_string();
    for declared in ["pub struct Atto <", "pub struct AttoEncoder <", "pub struct AttoFcmae <", "compile_error"] {
        assert!(items.contains(declared), "{declared} in {items}");
    }
}

#[test]
fn emitted_items_parse_and_carry_documentation() {
    let text = format!("/// About it.\n #[cfg(all())] pub {}", paper(224, ATTO));
    let file: syn::File = syn::parse2(compile(text.parse().expect("tokens"))).expect("items");
    let structs = file.items.iter().filter(|item| matches!(item, syn::Item::Struct(_))).count();
    assert_eq!(structs, 3);
    let text = quote::quote!(#file).to_string();
    assert!(text.contains("about : \"About it.\""), "{text}");
}

/// How long a block takes. Run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn time_of_the_largest() {
    let tokens: TokenStream = paper(224, HUGE).parse().expect("tokens");
    let mut times: Vec<_> = (0..100)
        .map(|_| {
            let tokens = tokens.clone();
            let start = Instant::now();
            std::hint::black_box(compile(tokens));
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("100 runs: median {:?}, fastest {:?}, slowest {:?}", times[50], times[0], times[99]);
}
