//! `debug` and `bench` on the smallest variant.

mod common;

use common::{Folder, line, read_npy, write_npy};

/// A folder with two images, a mask and weights of `micro`: 32x32x1, 4x4 patches of 8, 6 of them visible.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.array("x.npy", &[2, 32, 32, 1], |i| (i * 31 % 97) as f32 / 50.0 - 1.0);
    write_npy(&folder.path("m.npy"), &[2, 16], (0..32).map(|i| u8::from(i % 16 >= 6)));
    for layout in ["ours", "official"] {
        let init = "debug init --model micro --seed 3 --noise 0.1";
        assert_eq!(folder.run(&format!("{init} --layout {layout} --output @w-{layout}")).code, 0);
        assert_eq!(folder.run(&format!("{init} --layout {layout} --fcmae --output @f-{layout}")).code, 0);
    }
    folder
}

#[test]
fn logits_do_not_depend_on_the_layout_of_the_weights() {
    let folder = folder();
    let forward = |layout| {
        let said =
            folder.run(&format!("debug forward --model micro --weights @w-{layout} --input @x.npy --output @y.npy"));
        assert_eq!((said.code, said.error.as_str()), (0, ""));
        read_npy(&folder.path("y.npy"))
    };
    let (shape, logits) = forward("ours");
    assert_eq!(shape, [2, 10]);
    assert!(logits.iter().all(|logit| logit.is_finite()) && logits[..10] != logits[10..]);
    assert_eq!(forward("official"), (shape, logits));
}

#[test]
fn a_pre_training_pass_writes_predictions_and_gradients() {
    let folder = folder();
    let pass = |layout| {
        let to = "--output @p.npy --grads @g.safetensors";
        let from = format!("--weights @f-{layout} --input @x.npy --mask @m.npy");
        let loss = folder.run(&format!("debug fcmae --model micro {from} {to}")).json()["loss"].as_f64().unwrap();
        (loss, read_npy(&folder.path("p.npy")), std::fs::read(folder.path("g.safetensors")).unwrap())
    };
    let (loss, (shape, values), gradients) = pass("ours");
    assert!(loss.is_finite() && loss > 0.0);
    assert_eq!(shape, [2, 16, 64]);
    assert!(values.iter().all(|value| value.is_finite()));
    let header = String::from_utf8_lossy(&gradients[8..20_000]).into_owned();
    for name in
        ["encoder.downsample_layers.0.0.weight", "mask_token", "decoder.0.grn.gamma", "pred.bias", "proj.weight"]
    {
        assert!(header.contains(&format!("\"{name}\"")), "no {name}");
    }
    assert_eq!(pass("official"), (loss, (shape, values), gradients));
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = folder();
    folder.array("nchw.npy", &[2, 1, 32, 32], |_| 0.0);
    let forward = |rest: &str| folder.run(&format!("debug forward --output @y.npy --model {rest}"));
    forward("micro --weights @w-ours --input @nchw.npy")
        .failed(1, &["X has shape [2,1,32,32]", "this looks like [N,C,H,W]: transpose to [N,H,W,C]"]);
    forward("micro --weights @x.npy --input @x.npy").failed(1, &["x.npy"]);
    forward("micro --weights @w-ours --input @w-ours").failed(1, &["not a .npy file"]);
    forward("micro --weights @nothing --input @x.npy").failed(1, &["nothing", "No such file"]);
    forward("micro --weights @f-official --input @x.npy")
        .failed(1, &["holds only the encoder of this model, in the official layout", "fine-tun"]);

    let fcmae =
        |mask: &str| folder.run(&format!("debug fcmae --model micro --weights @f-ours --input @x.npy --mask @{mask}"));
    write_npy(&folder.path("short.npy"), &[2, 8], (0..16).map(|_| 0_u8));
    fcmae("short.npy").failed(1, &["has shape [2,8], should have [2,16]"]);
    write_npy(&folder.path("two.npy"), &[2, 16], (0..32).map(|i| i % 3));
    fcmae("two.npy").failed(1, &["not a mask of this model", "because: sample 0, patch 2"]);
    write_npy(&folder.path("many.npy"), &[2, 4, 4], (0..32).map(|_| 0_i64));
    fcmae("many.npy").failed(1, &["because: sample 0 keeps 16 patches, expected 6"]);
}

/// Steps on both images at once; targets are soft.
fn steps_of_fine_tuning(folder: &Folder, recipe: &str) -> common::Said {
    folder.array("t.npy", &[2, 10], |i| if i % 10 < 2 { 0.5 } else { 0.0 });
    let given = "--model micro --weights @w-ours --input @x.npy --targets @t.npy --output @trained.safetensors";
    folder.run(&format!("debug train {given} --recipe recipes/{recipe}"))
}

#[test]
fn each_step_of_fine_tuning_says_what_it_did() {
    let folder = folder();
    let said =
        steps_of_fine_tuning(&folder, "micro-scratch.toml --set finetune.batch=2 --steps 3 --ema @average.safetensors");
    assert_eq!((said.code, said.error.as_str()), (0, ""));
    let steps: Vec<serde_json::Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(steps.iter().map(|step| step["step"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2]);
    for step in &steps {
        assert!(["loss", "norm"].iter().all(|field| step[field].as_f64().unwrap() > 0.0), "{step}");
    }
    // The first loss is that of the weights that were given; one line has it in f32, the other in f64.
    let classify = "debug classify --model micro --weights @w-ours --input @x.npy --targets @t.npy";
    let loss = |value: &serde_json::Value| value["loss"].as_f64().unwrap() as f32;
    assert_eq!(loss(&folder.run(classify).json()), loss(&steps[0]));
    let file = |name: &str| std::fs::read(folder.path(name)).unwrap();
    assert_ne!(file("trained.safetensors"), file("average.safetensors"));
    assert_ne!(file("trained.safetensors"), file("w-official"));
}

#[test]
fn steps_that_cannot_be_made_are_refused() {
    let folder = folder();
    steps_of_fine_tuning(&folder, "micro-scratch.toml --set finetune.batch=2 --steps 21")
        .failed(2, &["--steps 21", "makes 20 steps", "finetune.epochs"]);
    steps_of_fine_tuning(&folder, "micro-pretrain.toml --steps 1").failed(2, &["does not fine-tune", "[finetune]"]);
    folder.array("nine.npy", &[2, 9], |_| 0.1);
    folder
        .run("debug classify --model micro --weights @w-ours --input @x.npy --targets @nine.npy")
        .failed(1, &["the targets have shape [2,9], should have [2,10]"]);
}

#[test]
fn every_job_can_be_measured() {
    let folder = Folder::new();
    folder.idx(20);
    assert_eq!(folder.run("pack --images @images.idx --labels @labels.idx --output @data/train").code, 0);
    let data = folder.path("data/*.tar").display().to_string();
    for job in ["pretrain", "finetune", "infer", "load"] {
        let bench =
            format!("bench --job {job} --model micro --batch 4 --threads 2 --steps 3 --warmup 1 --device cpu --json");
        let said = line(&if job == "load" { format!("{bench} --data {data}") } else { bench });
        assert_eq!(said.out.lines().count(), 1);
        let report = said.json();
        assert_eq!((&report["job"], &report["model"]), (&job.into(), &"micro".into()));
        assert_eq!((&report["batch"], &report["threads"], &report["steps"]), (&4.into(), &2.into(), &3.into()));
        assert_eq!((&report["device"], &report["dtype"]), (&"cpu".into(), &"f32".into()));
        let number = |field: &str| report[field].as_f64().unwrap();
        assert!(number("ms_min") <= number("ms_median") && number("ms_median") <= number("ms_max"));
        assert!(number("img_s") > 0.0 && number("peak_rss_mb") > 1.0);
    }
    line("bench --job load --model micro --data nowhere/*.tar").failed(1, &["no file matches"]);
}
