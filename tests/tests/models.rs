//! The variants that come with the program: what was counted, what is built, and what the paper prints.

use convnext::models::builtin;
use convnext_core::{dfdx::tensor::Cpu, network::Network, optim::Layout, plan::Plan};

/// What is built has the parameters of the network's walk, by name and shape, in both forms. The largest are left to the
/// arithmetic.
#[test]
fn models_have_the_parameters_of_the_network() {
    let declared = |network: Network<'_>| -> Vec<_> {
        network.declared().map(|parameter| (parameter.name, parameter.shape)).collect()
    };
    let built = |layout: &Layout| -> Vec<_> {
        layout.segments().iter().map(|segment| (segment.name.clone(), segment.shape.clone())).collect()
    };
    for entry in builtin().into_iter().filter(|entry| entry.plan.classifier().parameters() < 30_000_000) {
        let device = Cpu::default();
        let (plan, name) = (entry.plan, entry.plan.name);
        let classifier = entry.classifier(&device).unwrap().layout();
        assert_eq!(built(&classifier), declared(plan.classifier()), "{name}");
        assert_eq!(classifier.len() as u64, plan.classifier().parameters(), "{name}");
        if let (Some(network), Some(model)) = (plan.autoencoder(), entry.autoencoder(&device).unwrap()) {
            assert_eq!(built(&model.layout()), declared(network), "{name}");
            assert_eq!(model.layout().len() as u64, network.parameters(), "{name}");
        }
    }
}

/// Parameters in millions and multiply-adds in billions at 224, to the digits that are published.
///
/// The published counter adds five operations for each value that a layer normalisation makes; the plan counts
/// convolutions and matrix products only.
#[test]
fn the_eight_sizes_are_the_paper_s() {
    let published = [
        ("atto", "3.71", "0.55"),
        ("femto", "5.23", "0.79"),
        ("pico", "9.07", "1.37"),
        ("nano", "15.62", "2.46"),
        ("tiny", "28.64", "4.47"),
        ("base", "88.72", "15.38"),
        ("large", "197.96", "34.4"),
        ("huge", "660.29", "115.0"),
    ];
    for (name, parameters, multiply_adds) in published {
        let plan = builtin().into_iter().find(|entry| entry.plan.name == name).unwrap().plan;
        assert_eq!(format!("{:.2}", plan.classifier().parameters() as f64 / 1e6), parameters, "{name}");
        let digits = multiply_adds.split('.').nth(1).unwrap().len();
        let counted = plan.classifier().multiply_adds() + 5 * normalised_values(&plan);
        assert_eq!(format!("{:.digits$}", counted as f64 / 1e9), multiply_adds, "{name}");
    }
}

/// Values that layer normalisations make: one a block, one after the stem, one before each downsampling.
fn normalised_values(plan: &Plan) -> u64 {
    let values = |stage: usize| (plan.grid(stage).rows() * plan.stages[stage].dim) as u64;
    let last = plan.stages.len() - 1;
    let all = (0..=last).map(|stage| values(stage) * (plan.stages[stage].depth as u64 + 1)).sum::<u64>();
    all + values(0) - values(last)
}

/// 19 of 49 patches: the integer part, where others round.
#[test]
fn nineteen_of_forty_nine_patches_are_visible() {
    let atto = builtin().into_iter().find(|entry| entry.plan.name == "atto").unwrap().plan;
    assert_eq!(atto.patches().map(|patches| (patches.count(), patches.visible)), Some((49, 19)));
}

#[test]
fn names_of_built_in_variants_differ() {
    let names: std::collections::BTreeSet<_> = builtin().iter().map(|entry| entry.plan.name).collect();
    assert_eq!(names.len(), builtin().len());
}

/// What the documentation of the small variants promises, in millions.
#[test]
fn small_variants_are_small() {
    let numbers = |name: &str| {
        let plan = builtin().into_iter().find(|entry| entry.plan.name == name).unwrap().plan;
        let millions = |number: u64| number as f64 / 1e6;
        (
            format!("{:.1}", millions(plan.classifier().parameters())),
            format!("{:.0}", millions(plan.classifier().multiply_adds())),
        )
    };
    assert_eq!(numbers("micro"), ("0.5".into(), "18".into()));
    assert_eq!(numbers("nano64"), ("1.1".into(), "43".into()));
    assert_eq!(numbers("mini96"), ("1.1".into(), "57".into()));
}
