//! What the compiler makes of the kernels in which a step spends its time: whole vectors are moved by one instruction,
//! nothing lies in local memory that is not known to, and a value takes as many instructions as the model of cost counts
//! with.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    env, fs,
    ops::Range,
    path::PathBuf,
    process::Command,
    thread,
};

use convnext::models::builtin;
use convnext_core::launch::{
    element::Element,
    kernel::Module,
    schedule::{Argument, Schedule, Step},
};
use convnext_cuda::{
    compile::Compiler,
    cost::{COUNTS, Count, constant, side},
};

use super::{may_spill, schedules};

/// What a kernel's main loop does for one value.
#[derive(Debug, Clone, Copy)]
enum Loop {
    /// Moves bytes of activations.
    Moves { loads: usize, stores: usize },
    /// Multiplies and adds once for each of the taps of a convolution. A strip of a patch also reads the lines above and
    /// below it that reach it.
    Taps,
}

/// Taps of a convolution, of 7 x 7.
const TAPS: f64 = 49.0;

const KERNELS: [(&str, Loop); 10] = [
    ("grn_statistics", Loop::Moves { loads: 2, stores: 0 }),
    ("hidden_apply", Loop::Moves { loads: 2, stores: 2 }),
    ("grn_backward_statistics", Loop::Moves { loads: 4, stores: 0 }),
    ("hidden_backward", Loop::Moves { loads: 4, stores: 4 }),
    ("residual_forward", Loop::Moves { loads: 4, stores: 2 }),
    ("layer_norm_apply", Loop::Moves { loads: 2, stores: 2 }),
    ("layer_norm_backward", Loop::Moves { loads: 4, stores: 2 }),
    ("depthwise_forward", Loop::Taps),
    ("depthwise_input_gradient", Loop::Taps),
    ("depthwise_weight_gradient", Loop::Taps),
];

/// By how much a count may differ from the model's: compilers differ.
const TOLERANCE: f64 = 0.1;

/// A kernel's instructions, and those that are repeated.
#[derive(Debug, Default)]
struct Code {
    instructions: Vec<String>,
    loops: Vec<Range<usize>>,
}

/// What `nvdisasm -c` prints, by kernel. A loop is what lies between a branch backwards and where it goes.
fn parse(text: &str) -> BTreeMap<&str, Code> {
    let mut kernels = BTreeMap::new();
    for section in text.split("\n.text.").skip(1) {
        let (name, body) = section.split_once(':').unwrap();
        let (mut code, mut labels) = (Code::default(), HashMap::new());
        for line in body.lines().map(str::trim) {
            let at = code.instructions.len();
            if let Some(label) = line.strip_suffix(':') {
                labels.insert(label, at);
            } else if let Some((_, instruction)) = line.strip_prefix("/*").and_then(|line| line.split_once("*/")) {
                let target = instruction.split_once("`(").and_then(|(_, rest)| rest.split(')').next());
                let start = target.and_then(|label| labels.get(label)).filter(|&&start| start < at);
                if let Some(&start) = start.filter(|_| opcode(instruction).starts_with("BRA")) {
                    code.loops.push(start..at + 1);
                }
                code.instructions.push(instruction.trim_end_matches([' ', ';']).to_owned());
            }
        }
        kernels.insert(name, code);
    }
    kernels
}

/// `LDG.E.128` of `@P0 LDG.E.128 R4, ...`.
fn opcode(instruction: &str) -> &str {
    instruction.split_whitespace().find(|word| !word.starts_with('@')).unwrap_or("")
}

/// Bytes that an instruction moves from or to global memory; `None` if it is another instruction.
fn moved(instruction: &str, kinds: [&str; 2]) -> Option<usize> {
    let opcode = opcode(instruction);
    kinds.iter().any(|kind| opcode.split('.').next() == Some(kind)).then(|| {
        let widths = [("128", 16), ("64", 8), ("U16", 2), ("S16", 2), ("U8", 1), ("S8", 1)];
        let width = |(word, bytes)| opcode.split('.').any(|part| part == word).then_some(bytes);
        widths.into_iter().find_map(width).unwrap_or(4)
    })
}

fn loaded(instruction: &str) -> Option<usize> {
    moved(instruction, ["LDG", "LD"])
}

fn stored(instruction: &str) -> Option<usize> {
    moved(instruction, ["STG", "ST"])
}

/// A kernel's main loop.
#[derive(Debug, Clone, PartialEq)]
struct Counted {
    instructions: usize,
    /// Values that a thread handles each time.
    values: f64,
    /// Instructions of those that each value has to itself, wherever the loop passes over it.
    own: f64,
    problems: Vec<&'static str>,
}

impl Code {
    /// Loops without a loop in them; all of the code if there is none.
    fn innermost(&self) -> Vec<&[String]> {
        let holds = |outer: &Range<usize>, inner: &Range<usize>| outer.start <= inner.start && inner.end <= outer.end;
        let inner = |a: &&Range<usize>| !self.loops.iter().any(|b| b != *a && holds(a, b));
        let loops: Vec<_> = self.loops.iter().filter(inner).map(|range| &self.instructions[range.clone()]).collect();
        if loops.is_empty() { vec![&self.instructions] } else { loops }
    }

    /// Whether something lies in local memory: what registers did not hold, or an array.
    fn is_local(&self) -> bool {
        self.instructions.iter().any(|line| ["LDL", "STL"].contains(&opcode(line).split('.').next().unwrap_or("")))
    }

    /// The innermost loop of which there is most of what a value takes.
    fn counted(&self, kind: Loop) -> Counted {
        let wide =
            |body: &[String]| body.iter().filter_map(|line| loaded(line)).filter(|bytes| *bytes == 16).sum::<usize>();
        let written = |body: &[String]| body.iter().filter_map(|line| stored(line)).sum::<usize>();
        let reads = |body: &[String]| body.iter().any(|line| loaded(line).is_some());
        let values = |body: &[String]| match kind {
            Loop::Moves { loads, stores: 0 } => wide(body) as f64 / loads as f64,
            Loop::Moves { stores, .. } => written(body) as f64 / stores as f64,
            Loop::Taps if !reads(body) => 0.0,
            Loop::Taps => body.iter().filter(|line| opcode(line).starts_with("FFMA")).count() as f64 / TAPS,
        };
        let body = self.innermost().into_iter().max_by(|a, b| values(a).total_cmp(&values(b))).unwrap_or(&[]);
        let mut problems = Vec::new();
        if let Loop::Moves { loads, .. } = kind {
            let narrow = body.iter().filter_map(|line| stored(line)).any(|bytes| bytes < 16);
            problems.extend(narrow.then_some("stores are split"));
            let few = (wide(body) as f64) < loads as f64 * values(body);
            problems.extend(few.then_some("loads are split"));
        }
        let own = if let Loop::Taps = kind { TAPS } else { 0.0 };
        Counted { instructions: body.len(), values: values(body), own, problems }
    }
}

impl Counted {
    /// Where the loop passes over so many lines for each that has values of its own.
    fn a_value(&self, lines: f64) -> f64 {
        self.own + (self.instructions as f64 / self.values - self.own) * lines
    }
}

/// Lines that a kernel passes over for each line of a patch: those that reach it by one of the kernel rows at hand.
fn lines(kernel: &str, module: &Module) -> f64 {
    let constant = |name| constant(module, name).unwrap_or(1) as f64;
    let rows = if kernel == "depthwise_weight_gradient" { constant("TAP_ROWS") } else { constant("KERNEL") };
    let side = side(module) as f64;
    if side == 0.0 { 1.0 } else { (side + rows - 1.0) / side }
}

/// For each kernel and side of a patch the module of the largest launch.
fn modules(schedules: &[Schedule]) -> BTreeMap<(&'static str, usize), Module> {
    let mut largest = BTreeMap::<_, (usize, &Module)>::new();
    for step in schedules.iter().flat_map(Schedule::steps) {
        let Step::Launch(launch) = step else { continue };
        let Some(Argument::Read(first) | Argument::Update(first)) = launch.arguments.first() else { continue };
        let kernel = launch.kernel;
        if KERNELS.iter().any(|(known, _)| *known == kernel) {
            let entry = largest.entry((kernel, side(&launch.module))).or_insert((0, &launch.module));
            if first.length >= entry.0 {
                *entry = (first.length, &launch.module);
            }
        }
    }
    largest.into_iter().map(|(key, (_, module))| (key, module.clone())).collect()
}

/// What the disassembler prints for each module.
fn disassembled(compiler: Compiler, modules: impl Iterator<Item = Module>) -> HashMap<Module, String> {
    let folder = tempfile::tempdir().unwrap();
    let program = env::var("NVDISASM").unwrap_or_else(|_| "nvdisasm".into());
    let text = |module: &Module, path: PathBuf| {
        fs::write(&path, compiler.compile(module, "sm_90").unwrap().cubin).unwrap();
        let said = Command::new(&program).arg("-c").arg(&path).output();
        let said = said.unwrap_or_else(|error| panic!("{program}: {error}; NVDISASM names it"));
        assert!(said.status.success(), "{program}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap()
    };
    let distinct: HashSet<Module> = modules.collect();
    let (folder, text) = (folder.path(), &text);
    thread::scope(|scope| {
        let start = |(number, module)| {
            let path = folder.join(format!("{number}.cubin"));
            scope.spawn(move || (text(&module, path), module))
        };
        let jobs: Vec<_> = distinct.into_iter().enumerate().map(start).collect();
        jobs.into_iter().map(|job| job.join().unwrap()).map(|(text, module)| (module, text)).collect()
    })
}

/// What the model of cost takes for a kernel over patches of this side.
fn expected(kernel: &str, patch: usize) -> f64 {
    let of = |count: &&Count| count.kernel == kernel && count.side.is_none_or(|side| side == patch);
    COUNTS.iter().find(of).map_or(f64::NAN, |count| count.instructions)
}

/// Of Tiny in bf16, by the compiler for the H100 and the H200.
#[test]
#[ignore = "needs NVRTC and nvdisasm: see docs/gpu.md"]
fn every_kernel_that_takes_long_is_compiled_well() {
    let compiler = Compiler::load().unwrap();
    let tiny = builtin().into_iter().find(|entry| entry.plan.name == "tiny").unwrap().plan;
    let schedules: Vec<_> = schedules(&tiny, 128, Element::Bf16).into_iter().map(|(_, schedule)| schedule).collect();
    let modules = modules(&schedules);
    let texts = disassembled(compiler, modules.values().cloned());
    println!(
        "NVRTC {:?}, sm_90, bf16: the main loop's instructions, and the values that it handles",
        compiler.version()
    );
    println!("{:26} {:>5} {:>12} {:>6} {:>7} {:>6}", "kernel", "patch", "instructions", "values", "a value", "model");
    let mut problems = Vec::new();
    for ((kernel, patch), module) in &modules {
        let kind = KERNELS.iter().find(|(known, _)| known == kernel).unwrap().1;
        let parsed = parse(&texts[module]);
        let code = &parsed[kernel];
        let counted = code.counted(kind);
        let (found, model) = (counted.a_value(lines(kernel, module)), expected(kernel, *patch));
        let Counted { instructions, values, problems: mut wrong, .. } = counted;
        let agree = (found / model - 1.0).abs() <= TOLERANCE;
        wrong.extend((!agree).then_some("the model of cost counts otherwise"));
        let local = code.is_local() && may_spill(kernel, "sm_90") == 0;
        wrong.extend(local.then_some("local memory is used"));
        let wrong = wrong.join(", ");
        let line = format!("{kernel:26} {patch:5} {instructions:12} {values:6.2} {found:7.1} {model:6.1}  {wrong}");
        println!("{}", line.trim_end());
        problems.extend((!wrong.is_empty()).then_some(line));
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// In the form of nvdisasm: a loop over vectors, whose store is split or not, in a loop that stores as well.
fn listing(stores: &str) -> String {
    format!(
        "\t.section\t.text.one,\"ax\",@progbits\n\
         one:\n\
         .text.one:\n\
         \x20       /*0000*/                   LDC R1, c[0x0][0x28] ;\n\
         .L_x_0:\n\
         .L_x_1:\n\
         \x20       /*0010*/              @!P0 LDG.E.128.CONSTANT R4, desc[UR6][R16.64+-0x3000] ;\n\
         \x20       /*0020*/                   FFMA R0, R0, R1, R2 ;\n\
         {stores}\
         \x20       /*0040*/               @P2 BRA `(.L_x_1) ;\n\
         \x20       /*0050*/                   STG.E.128 desc[UR6][R16.64], R4 ;\n\
         \x20       /*0060*/                   BRA `(.L_x_0) ;\n\
         \x20       /*0070*/                   BRA `(.L_x_2) ;\n\
         .L_x_2:\n\
         .text.two:\n\
         \x20       /*0000*/                   STL [R1], R2 ;\n"
    )
}

#[test]
fn a_listing_is_read() {
    let kind = Loop::Moves { loads: 2, stores: 2 };
    let whole = listing("        /*0030*/                   STG.E.128 desc[UR6][R16.64], R4 ;\n");
    let kernels = parse(&whole);
    assert_eq!(kernels.keys().collect::<Vec<_>>(), [&"one", &"two"]);
    assert_eq!(kernels["one"].loops, [1..5, 1..7]);
    let counted = kernels["one"].counted(kind);
    assert_eq!(counted, Counted { instructions: 4, values: 8.0, own: 0.0, problems: vec![] });
    assert_eq!(counted.a_value(1.0), 0.5);
    assert_eq!(Counted { instructions: 51 * 4, values: 4.0, own: 49.0, problems: vec![] }.a_value(4.0), 57.0);
    let split = listing(&"        /*0030*/                   STG.E desc[UR6][R16.64], R4 ;\n".repeat(4));
    let counted = parse(&split)["one"].counted(kind);
    assert_eq!(counted, Counted { instructions: 7, values: 8.0, own: 0.0, problems: vec!["stores are split"] });
    assert_eq!(parse(&split)["one"].counted(Loop::Moves { loads: 4, stores: 2 }).problems.len(), 2);
    assert_eq!(["one", "two"].map(|name| parse(&whole)[name].is_local()), [false, true]);
    assert_eq!([loaded("LDG.E R1"), loaded("LDG.E.U16 R1"), loaded("LDS.128 R1")], [Some(4), Some(2), None]);
    assert_eq!([stored("@P1 STG.E.64 R1"), stored("STS R1"), stored("ST.E.128 R1")], [Some(8), None, Some(16)]);
}
