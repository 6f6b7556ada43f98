//! What was written is decoded again and held against the plan. That the numbers are right is for a runtime to say.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::PathBuf,
};

use convnext_core::plan::{Flavour, StagePlan};
use tempfile::TempDir;

use super::{
    messages::{DataLocation, Dimension, GraphProto, ModelProto, NodeProto, Side, TensorProto, ValueInfoProto},
    *,
};

const fn stage(dim: usize, kernel: usize, depth: usize) -> StagePlan {
    StagePlan { dim, depth, kernel }
}

/// Two stages of different kernels, twelve by twenty pixels of one channel, a stem of two pixels.
const OBLONG: Plan = Plan {
    about: "A strip of grey.",
    height: 12,
    width: 20,
    channels: 1,
    stem: 2,
    stages: &[stage(4, 5, 2), stage(6, 3, 1)],
    classes: 3,
    ..Plan::blank("oblong")
};

const OBLONG_V1: Plan = Plan { name: "oblong-v1", flavour: Flavour::V1, ..OBLONG };

/// The tensors of the plan's classifier, as the modules name and shape them.
fn tensors(plan: &Plan) -> Vec<(String, Vec<usize>)> {
    let mut tensors = Vec::new();
    let mut add =
        |module: &str, tensor: &str, shape: &[usize]| tensors.push((format!("{module}.{tensor}"), shape.into()));
    let mut before = 0;
    for (i, &StagePlan { dim, depth, kernel, .. }) in plan.stages.iter().enumerate() {
        let (side, inputs, normalised, module) = match i {
            0 => (plan.stem, plan.channels, dim, "encoder.stem".into()),
            _ => (2, before, before, format!("encoder.stages.{i}.downsample")),
        };
        add(&format!("{module}.conv"), "weight", &[side, side, inputs, dim]);
        add(&format!("{module}.conv"), "bias", &[dim]);
        add(&format!("{module}.norm"), "weight", &[normalised]);
        add(&format!("{module}.norm"), "bias", &[normalised]);
        for block in (0..depth).map(|block| format!("encoder.stages.{i}.blocks.{block}")) {
            add(&format!("{block}.dwconv"), "weight", &[kernel, kernel, dim]);
            add(&format!("{block}.pwconv1"), "weight", &[dim, 4 * dim]);
            add(&format!("{block}.pwconv1"), "bias", &[4 * dim]);
            add(&format!("{block}.pwconv2"), "weight", &[4 * dim, dim]);
            for (module, tensor) in [("dwconv", "bias"), ("norm", "weight"), ("norm", "bias"), ("pwconv2", "bias")] {
                add(&format!("{block}.{module}"), tensor, &[dim]);
            }
            match plan.flavour {
                Flavour::V1 => add(&format!("{block}.layer_scale"), "gamma", &[dim]),
                Flavour::V2 => {
                    add(&format!("{block}.grn"), "gamma", &[4 * dim]);
                    add(&format!("{block}.grn"), "beta", &[4 * dim]);
                }
            }
        }
        before = dim;
    }
    add("head.norm", "weight", &[before]);
    add("head.norm", "bias", &[before]);
    add("head.linear", "weight", &[before, plan.classes]);
    add("head.linear", "bias", &[plan.classes]);
    tensors
}

fn layout(plan: &Plan) -> Layout {
    Layout::new(tensors(plan)).unwrap()
}

/// Every value is its place in the buffer.
fn values(layout: &Layout) -> Vec<f32> {
    (0..layout.len()).map(|at| at as f32).collect()
}

/// A folder with the plan's model in it, weights inline up to the limit.
struct Exported {
    folder: TempDir,
    path: PathBuf,
}

impl Exported {
    fn new(plan: &Plan, limit: usize) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("model.onnx");
        let layout = layout(plan);
        export_with(limit, &path, plan, &layout, &values(&layout), None).unwrap();
        Self { folder, path }
    }

    fn model(&self) -> ModelProto {
        ModelProto::decode(&fs::read(&self.path).unwrap()[..]).unwrap()
    }

    fn graph(&self) -> GraphProto {
        self.model().graph.unwrap()
    }

    fn files(&self) -> Vec<String> {
        files(self.folder.path())
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn is_constant(tensor: &TensorProto) -> bool {
    tensor.dims.is_empty()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect()
}

fn shape(value: &ValueInfoProto) -> Vec<Side> {
    let tensor = value.r#type.clone().unwrap().tensor_type.unwrap();
    assert_eq!(tensor.elem_type, i32::from(messages::DataType::Float));
    tensor.shape.unwrap().dim.into_iter().map(|Dimension { value }| value.unwrap()).collect()
}

/// How often each value is read.
fn uses(graph: &GraphProto) -> HashMap<&str, usize> {
    let mut uses = HashMap::new();
    graph.node.iter().flat_map(|node| &node.input).for_each(|name| *uses.entry(name.as_str()).or_default() += 1);
    uses
}

fn find<'a>(graph: &'a GraphProto, node: &str) -> &'a NodeProto {
    graph.node.iter().find(|found| found.name == node).unwrap_or_else(|| panic!("no node {node}"))
}

fn list<'a>(node: &'a NodeProto, attribute: &str) -> &'a [i64] {
    &node.attribute.iter().find(|found| found.name == attribute).unwrap().ints
}

// ---- the file and its inputs --------------------------------------------------------------------------------------

#[test]
fn the_file_says_what_it_is() {
    let model = Exported::new(&OBLONG, INLINE_LIMIT).model();
    assert_eq!((model.ir_version, model.producer_name.as_str()), (8, "convnext"));
    assert_eq!((model.opset_import.len(), model.opset_import[0].version), (1, 17));
    let graph = model.graph.unwrap();
    assert_eq!((graph.name.as_str(), graph.doc_string.as_str()), ("oblong", "A strip of grey."));
}

#[test]
fn images_go_in_and_logits_come_out() {
    let graph = Exported::new(&OBLONG, INLINE_LIMIT).graph();
    let ([images], [logits]) = (&graph.input[..], &graph.output[..]) else { panic!("one of each") };
    assert_eq!((images.name.as_str(), logits.name.as_str()), ("images", "logits"));
    let batch = Side::Parameter("batch".into());
    assert_eq!(shape(images), [batch.clone(), Side::Value(1), Side::Value(12), Side::Value(20)]);
    assert_eq!(shape(logits), [batch, Side::Value(3)]);
}

// ---- the graph ----------------------------------------------------------------------------------------------------

#[test]
fn nodes_are_as_many_as_the_plan_asks_for() {
    // Stem and downsampling: a convolution, and a normalisation between two transpositions. Head: pool, norm, linear.
    let around = 2 * 4 + 3;
    // A block: depthwise, normalisation, two layers, GELU of five, sum; and its flavour's own.
    let block = 1 + 3 + 2 + 5 + 1;
    for (plan, flavour) in [(OBLONG, 8), (OBLONG_V1, 1)] {
        let graph = Exported::new(&plan, INLINE_LIMIT).graph();
        assert_eq!(graph.node.len(), around + 3 * (block + flavour), "{}", plan.name);
    }
}

#[test]
fn nodes_read_only_what_is_there_before_them() {
    for plan in [OBLONG, OBLONG_V1] {
        let graph = Exported::new(&plan, INLINE_LIMIT).graph();
        let mut known: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(known.len(), graph.initializer.len(), "names of initializers");
        known.insert("images");
        for node in &graph.node {
            assert!(node.input.iter().all(|input| known.contains(input.as_str())), "{}: {:?}", node.name, node.input);
            assert!(known.insert(&node.output[0]), "two values named {}", node.output[0]);
        }
    }
}

#[test]
fn every_weight_is_read_once_and_every_value_at_least_once() {
    for plan in [OBLONG, OBLONG_V1] {
        let graph = Exported::new(&plan, INLINE_LIMIT).graph();
        let uses = uses(&graph);
        let weights: Vec<_> = graph.initializer.iter().filter(|tensor| !is_constant(tensor)).collect();
        assert_eq!(weights.len(), tensors(&plan).len());
        weights.iter().for_each(|weight| assert_eq!(uses.get(weight.name.as_str()), Some(&1), "{}", weight.name));
        let constants = graph.initializer.iter().filter(|tensor| is_constant(tensor)).map(|tensor| &tensor.name);
        let computed = graph.node.iter().map(|node| &node.output[0]).filter(|name| *name != "logits");
        constants.chain(computed).for_each(|name| assert!(uses.contains_key(name.as_str()), "{name} is not read"));
        assert!(!uses.contains_key("logits"));
    }
}

#[test]
fn sizes_are_those_of_each_stage() {
    let graph = Exported::new(&OBLONG, INLINE_LIMIT).graph();
    assert_eq!(list(find(&graph, "stem.conv"), "strides"), [2, 2]);
    assert_eq!(list(find(&graph, "stages.1.downsample.conv"), "kernel_shape"), [2, 2]);
    assert_eq!(list(find(&graph, "stages.0.blocks.1.dwconv"), "pads"), [2; 4]);
    assert_eq!(list(find(&graph, "stages.1.blocks.0.dwconv"), "pads"), [1; 4]);
    let group = &find(&graph, "stages.1.blocks.0.dwconv").attribute[0];
    assert_eq!((group.name.as_str(), group.i), ("group", Some(6)));
}

#[test]
fn gelu_is_written_as_runtimes_recognise_it() {
    // With another first operator the result is the same, and the five nodes stay five passes over memory.
    let graph = Exported::new(&OBLONG, INLINE_LIMIT).graph();
    let gelu = graph.node.iter().filter(|node| node.name.starts_with("stages.0.blocks.0.gelu"));
    let operators: Vec<&str> = gelu.map(|node| node.op_type.as_str()).collect();
    assert_eq!(operators, ["Div", "Erf", "Add", "Mul", "Mul"]);
}

#[test]
fn a_zero_in_an_attribute_is_written() {
    // Proto3 leaves zeros out where a field is not optional, and readers then miss the attribute's value.
    let graph = Exported::new(&OBLONG, INLINE_LIMIT).graph();
    let keep = find(&graph, "head.pool").attribute.iter().find(|attribute| attribute.name == "keepdims").unwrap();
    assert_eq!(keep.i, Some(0));
}

// ---- the weights --------------------------------------------------------------------------------------------------

#[test]
fn weights_have_the_shapes_that_their_operators_want() {
    let shapes = |plan: &Plan| -> HashMap<String, Vec<i64>> {
        let graph = Exported::new(plan, INLINE_LIMIT).graph();
        graph.initializer.into_iter().map(|tensor| (tensor.name, tensor.dims)).collect()
    };
    let (v2, v1) = (shapes(&OBLONG), shapes(&OBLONG_V1));
    assert_eq!(v2["stem.conv.weight"], [4, 1, 2, 2]);
    assert_eq!(v2["stages.1.downsample.conv.weight"], [6, 4, 2, 2]);
    assert_eq!(v2["stages.0.blocks.1.dwconv.weight"], [4, 1, 5, 5]);
    assert_eq!(v2["stages.0.blocks.1.pwconv1.weight"], [16, 4, 1, 1]);
    assert_eq!(v2["stages.1.blocks.0.grn.gamma"], [1, 24, 1, 1]);
    assert_eq!(v2["head.norm.weight"], [6]);
    assert_eq!(v2["head.linear.weight"], [6, 3]);
    assert_eq!(v1["stages.1.blocks.0.layer_scale.gamma"], [1, 6, 1, 1]);
    assert!(!v1.keys().any(|name| name.contains("grn.")));
}

#[test]
fn every_value_is_written_once() {
    let layout = layout(&OBLONG);
    let graph = Exported::new(&OBLONG, INLINE_LIMIT).graph();
    for tensor in graph.initializer.iter().filter(|tensor| !is_constant(tensor)) {
        let encoder = format!("encoder.{}", tensor.name);
        let segment = layout.get(&encoder).or_else(|| layout.get(&tensor.name)).unwrap();
        let mut places = floats(tensor.raw_data.as_ref().unwrap());
        places.sort_by(f32::total_cmp);
        let expected: Vec<f32> = segment.range.clone().map(|at| at as f32).collect();
        assert_eq!(places, expected, "{}", tensor.name);
    }
}

#[test]
fn a_pointwise_layer_is_transposed() {
    let layout = layout(&OBLONG);
    let first = layout.get("encoder.stages.0.blocks.0.pwconv1.weight").unwrap().range.start as f32;
    let graph = Exported::new(&OBLONG, INLINE_LIMIT).graph();
    let name = "stages.0.blocks.0.pwconv1.weight";
    let tensor = graph.initializer.into_iter().find(|tensor| tensor.name == name).unwrap();
    let row: Vec<f32> = floats(&tensor.raw_data.unwrap())[..5].iter().map(|value| value - first).collect();
    assert_eq!(row, [0.0, 16.0, 32.0, 48.0, 1.0]);
}

// ---- weights in a second file -------------------------------------------------------------------------------------

#[test]
fn weights_above_the_limit_go_to_a_second_file() {
    let bytes = 4 * layout(&OBLONG).len();
    assert_eq!(Exported::new(&OBLONG, bytes).files(), ["model.onnx"]);
    assert_eq!(Exported::new(&OBLONG, bytes - 1).files(), ["model.onnx", "model.onnx.data"]);
}

#[test]
fn both_forms_hold_the_same() {
    let inline = Exported::new(&OBLONG, INLINE_LIMIT).model();
    let exported = Exported::new(&OBLONG, 0);
    let data = fs::read(exported.folder.path().join("model.onnx.data")).unwrap();
    let mut model = exported.model();
    let mut end = 0;
    for tensor in &mut model.graph.as_mut().unwrap().initializer {
        if is_constant(tensor) {
            assert!(tensor.raw_data.is_some(), "numbers of the formulas stay in the model");
            continue;
        }
        assert_eq!(tensor.data_location.take(), Some(DataLocation::External.into()));
        let entries: HashMap<String, String> =
            tensor.external_data.drain(..).map(|entry| (entry.key, entry.value)).collect();
        let (offset, length): (usize, usize) = (entries["offset"].parse().unwrap(), entries["length"].parse().unwrap());
        assert_eq!((entries["location"].as_str(), offset % 4096), ("model.onnx.data", 0));
        assert!(offset >= end, "{} begins before the last one ends", tensor.name);
        tensor.raw_data = Some(data[offset..][..length].to_vec());
        end = offset + length;
    }
    assert_eq!(end, data.len());
    assert_eq!(model, inline);
}

#[test]
fn an_older_pair_is_replaced() {
    let exported = Exported::new(&OBLONG, 0);
    let data = exported.folder.path().join("model.onnx.data");
    let (model, older) = (fs::read(&exported.path).unwrap(), fs::read(&data).unwrap());
    let layout = layout(&OBLONG);
    export_with(0, &exported.path, &OBLONG, &layout, &vec![0.5; layout.len()], None).unwrap();
    assert_eq!(exported.files(), ["model.onnx", "model.onnx.data"]);
    assert_eq!(fs::read(&exported.path).unwrap(), model, "the plan is the same");
    assert_ne!(fs::read(&data).unwrap(), older);
}

// ---- what is refused ----------------------------------------------------------------------------------------------

/// Why the export failed; nothing may be left of it.
fn refused(plan: &Plan, layout: &Layout, values: &[f32]) -> OnnxError {
    let folder = TempDir::new().unwrap();
    let error = export(&folder.path().join("model.onnx"), plan, layout, values, None).unwrap_err();
    assert!(files(folder.path()).is_empty());
    error
}

#[test]
fn all_wrong_tensors_are_named() {
    let mut wrong = tensors(&OBLONG);
    wrong.retain(|(name, _)| name != "encoder.stages.1.blocks.0.grn.gamma" && name != "head.norm.bias");
    wrong.iter_mut().filter(|(name, _)| name == "head.linear.weight").for_each(|(_, shape)| shape.reverse());
    wrong.push(("decoder.0.dwconv.bias".into(), vec![4]));
    let layout = Layout::new(wrong).unwrap();
    let error = refused(&OBLONG, &layout, &values(&layout)).to_string();
    for line in [
        "missing: encoder.stages.1.blocks.0.grn.gamma\n",
        "missing: head.norm.bias\n",
        "shape:   head.linear.weight is [3, 6], the model has [6, 3]\n",
        "unknown: decoder.0.dwconv.bias\n",
    ] {
        assert!(error.contains(line), "{line} is not in {error}");
    }
}

#[test]
fn one_flavour_is_not_the_other() {
    let layout = layout(&OBLONG);
    assert!(matches!(refused(&OBLONG_V1, &layout, &values(&layout)), OnnxError::Tensors { .. }));
}

#[test]
fn a_buffer_of_another_length() {
    let layout = layout(&OBLONG);
    let error = refused(&OBLONG, &layout, &values(&layout)[1..]);
    assert!(matches!(error, OnnxError::Length { expected, found } if expected == found + 1), "{error}");
}

#[test]
fn plans_that_make_no_model() {
    let huge = StagePlan { dim: usize::MAX, ..stage(4, 5, 2) };
    let forged = [
        (Plan { stages: &[], ..OBLONG }, "no stage"),
        (Plan { height: 14, ..OBLONG }, "14 x 20 pixels"),
        (Plan { width: 0, ..OBLONG }, "a width of 0"),
        (Plan { stem: 0, ..OBLONG }, "a stem of 0"),
        (Plan { classes: usize::MAX, ..OBLONG }, "a number of classes of"),
        (Plan { stages: const { &[stage(4, 4, 2)] }, ..OBLONG }, "stage 0: a depthwise kernel has an odd side, not 4"),
        (Plan { stages: const { &[stage(0, 5, 2)] }, ..OBLONG }, "stage 0: a number of channels of 0"),
        (Plan { stages: Box::leak(Box::new([huge])), ..OBLONG }, "stage 0: a number of channels of"),
        (Plan { stages: Box::leak(vec![OBLONG.stages[0]; 100].into()), ..OBLONG }, "100 stages"),
        (
            Plan { stages: Box::leak(Box::new([StagePlan { depth: usize::MAX, ..OBLONG.stages[0] }])), ..OBLONG },
            "stage 0: a number of blocks of",
        ),
        (
            Plan { stages: Box::leak(Box::new([StagePlan { depth: 900, ..OBLONG.stages[0] }])), ..OBLONG },
            "900 blocks for",
        ),
    ];
    for (plan, message) in forged {
        let error = refused(&plan, &layout(&OBLONG), &[]);
        assert!(matches!(error, OnnxError::Plan { .. }) && error.to_string().contains(message), "{error}");
    }
}

#[test]
fn a_path_without_a_file() {
    let layout = layout(&OBLONG);
    let error = export(Path::new(".."), &OBLONG, &layout, &values(&layout), None).unwrap_err();
    assert!(matches!(error, OnnxError::FileName(_)), "{error}");
}

#[test]
fn a_folder_that_does_not_exist() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("nowhere").join("model.onnx");
    let layout = layout(&OBLONG);
    let error = export(&path, &OBLONG, &layout, &values(&layout), None).unwrap_err();
    assert!(matches!(error, OnnxError::Io { action: "write", .. }), "{error}");
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn an_error_leaves_older_files_as_they_were() {
    for limit in [0, INLINE_LIMIT] {
        let folder = TempDir::new().unwrap();
        // A folder at the model's place cannot be renamed over, which shows only at the very end.
        let path = folder.path().join("model.onnx");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), "kept").unwrap();
        let data = folder.path().join("model.onnx.data");
        fs::write(&data, "older").unwrap();
        let layout = layout(&OBLONG);
        let error = export_with(limit, &path, &OBLONG, &layout, &values(&layout), None).unwrap_err();
        assert!(matches!(error, OnnxError::Io { action: "replace", .. }), "{error}");
        assert_eq!(fs::read_to_string(&data).unwrap(), "older");
        assert_eq!(files(folder.path()), ["model.onnx", "model.onnx.data"]);
    }
}

#[test]
fn a_folder_at_the_place_of_the_weights_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("model.onnx.data");
    fs::create_dir(&data).unwrap();
    let layout = layout(&OBLONG);
    let error =
        export_with(0, &folder.path().join("model.onnx"), &OBLONG, &layout, &values(&layout), None).unwrap_err();
    assert!(matches!(error, OnnxError::Io { action: "replace", .. }), "{error}");
    assert_eq!(files(folder.path()), ["model.onnx.data"]);
}
