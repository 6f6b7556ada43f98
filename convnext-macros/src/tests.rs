//! The compiler on tokens: resolved sizes, messages, and emitted items. What rustc makes of
//! them is tested where `convnext_core` is at hand.

use crate::check::Model;
use crate::error::Errors;
use crate::{check, compile, parse};
use proc_macro2::TokenStream;
use std::time::Instant;

/// A block's models, or the messages of its mistakes.
fn models(text: &str) -> Result<Vec<Model>, Vec<String>> {
    let mut errors = Errors::default();
    let mut spec = parse::spec(text.parse().expect("tokens"), &mut errors);
    check::names(&mut spec, &mut errors);
    check::values(&mut spec, &mut errors);
    let models: Vec<_> = spec.models.iter().map(|model| check::model(model, &spec, &mut errors)).collect();
    let messages = errors.messages();
    if !messages.is_empty() {
        return Err(messages);
    }
    Ok(models.into_iter().map(|model| model.expect("no mistakes")).collect())
}

fn model(text: &str) -> Model {
    let mut models = models(text).unwrap_or_else(|messages| panic!("{}", messages.join("\n")));
    assert_eq!(models.len(), 1);
    models.remove(0)
}

fn messages(text: &str) -> Vec<String> {
    models(text).expect_err("a mistake")
}

/// The paper's stem, head and pre-training on square images, with these stages.
fn paper(size: u64, stages: &str) -> String {
    format!("model M {{ input: {size} x {size} x 3, stem: 4, head: 1000, stages: [{stages}], fcmae: {{ patch: 32 }} }}")
}

/// A model that fits, but for what a test adds.
fn small(settings: &str) -> String {
    format!("model M {{ input: 32 x 64 x 3, stem: 4, head: 10, stages: [8 x 1, 16 x 2], {settings} }}")
}

// Sizes

const ATTO: &str = "40 x 2, 80 x 2, 160 x 6, 320 x 2";
const HUGE: &str = "352 x 3, 704 x 3, 1408 x 27, 2816 x 3";

#[test]
fn grids_of_a_wide_input() {
    let model = model(&small(""));
    let grids: Vec<_> = model.stages.iter().map(|stage| (stage.height, stage.width)).collect();
    assert_eq!(grids, [(8, 16), (4, 8)]);
    assert_eq!(model.stride(), 8);
}

/// floor(L * (1 - mask)) in decimals, where binary floating point would often miss by one.
#[test]
fn visible_patches_are_exact() {
    let visible = |input: &str, mask: &str| {
        let text = format!(
            "model M {{ input: {input} x 1, stem: 1, head: 2, stages: [1 x 1], fcmae: {{ patch: 1, mask: {mask} }} }}"
        );
        model(&text).fcmae.expect("declared").visible
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
fn kernels_differ_by_stage() {
    let text = "model M { input: 32 x 32 x 3, stem: 4, head: 10, kernel: 9, stages: [8 x 1 kernel 3, 16 x 1] }";
    let kernels: Vec<_> = model(text).stages.iter().map(|stage| stage.kernel).collect();
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
    let models = models(text).expect("no mistakes");
    let [one, two, three] = models.as_slice() else { panic!("three models") };
    let fcmae = |model: &Model| model.fcmae.as_ref().map(|fcmae| (fcmae.patch, fcmae.mask.as_f32()));
    assert_eq!((one.stem, fcmae(one)), (4, Some((16, 0.5))));
    assert_eq!((two.stem, fcmae(two)), (2, Some((8, 0.5))));
    assert_eq!(fcmae(three), None);
}

/// Rust's lexer reads each of these differently.
#[test]
fn products_may_be_written_close() {
    for input in ["32 x 64 x 3", "32x64x3", "32 x64 x3", "32x 64x 3", "32 x64x3", "3_2 x 64 x 3"] {
        let model = model(&format!("model M {{ input: {input}, stem: 4, head: 10, stages: [8x1, 16 x2 kernel 3] }}"));
        assert_eq!((model.height, model.width, model.channels), (32, 64, 3), "{input}");
        assert_eq!((model.stages[1].depth, model.stages[1].kernel), (2, 3), "{input}");
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
