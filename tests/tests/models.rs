//! The variants that come with the program: what the compiler counted, what is built, and what the paper prints.

use convnext::models::builtin;
use convnext_core::{
    dfdx::tensor::Cpu,
    plan::{Plan, StagePlan},
};

/// The macro's arithmetic and the run's are two; they agree on every number.
#[test]
fn compile_time_and_run_time_count_alike() {
    for entry in builtin() {
        let Plan { name, stages, parameters, multiply_adds, fcmae, .. } = entry.plan;
        let sizes = entry.plan.sizes();
        let planned: Vec<_> =
            stages.iter().map(|stage| (stage.height, stage.width, stage.parameters, stage.multiply_adds)).collect();
        assert_eq!(sizes.stages, planned, "{name}");
        assert_eq!(sizes.classifier, (parameters, multiply_adds), "{name}");
        let fcmae = fcmae.map(|fcmae| (fcmae.visible, fcmae.parameters, fcmae.multiply_adds));
        assert_eq!(sizes.fcmae, fcmae, "{name}");
    }
}

/// What is built has as many parameters as was counted, in both forms. The largest are left to the arithmetic above.
#[test]
fn models_have_the_parameters_that_were_counted() {
    for entry in builtin().into_iter().filter(|entry| entry.plan.parameters < 30_000_000) {
        let device = Cpu::default();
        let name = entry.plan.name;
        assert_eq!(entry.classifier(&device).unwrap().layout().len() as u64, entry.plan.parameters, "{name}");
        if let (Some(plan), Some(model)) = (entry.plan.fcmae, entry.autoencoder(&device).unwrap()) {
            assert_eq!(model.layout().len() as u64, plan.parameters, "{name}");
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
        assert_eq!(format!("{:.2}", plan.parameters as f64 / 1e6), parameters, "{name}");
        let digits = multiply_adds.split('.').nth(1).unwrap().len();
        let counted = plan.multiply_adds + 5 * normalised_values(&plan);
        assert_eq!(format!("{:.digits$}", counted as f64 / 1e9), multiply_adds, "{name}");
    }
}

/// Values that layer normalisations make: one a block, one after the stem, one before each downsampling.
fn normalised_values(plan: &Plan) -> u64 {
    let values = |stage: &StagePlan| (stage.height * stage.width * stage.dim) as u64;
    let (first, last) = (&plan.stages[0], &plan.stages[plan.stages.len() - 1]);
    plan.stages.iter().map(|stage| values(stage) * (stage.depth as u64 + 1)).sum::<u64>() + values(first) - values(last)
}

/// 19 of 49 patches: the integer part, where others round.
#[test]
fn nineteen_of_forty_nine_patches_are_visible() {
    let atto = builtin().into_iter().find(|entry| entry.plan.name == "atto").unwrap().plan;
    assert_eq!(atto.fcmae.map(|fcmae| (fcmae.patches(), fcmae.visible)), Some((49, 19)));
}
