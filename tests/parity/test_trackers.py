"""What TensorBoard reads in a run directory."""

import json

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator, plugin_event_accumulator
from tensorboard.plugins.hparams import metadata

import program


def test_curves_settings_and_pictures(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(16):
        pixels = generator.integers(0, 256, (32, 32), dtype=np.uint8)
        folder = tmp_path / "images" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    program.run("pack", "--folder", tmp_path / "images", "--output", tmp_path / "set")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[model]\nname = "micro"\n[pretrain]\nepochs = 2\nbatch = 8\nbase_lr = 0.001\n')
    shards, run = tmp_path / "set-*.tar", tmp_path / "run"
    program.run("pretrain", "--recipe", recipe, "--data", shards, "--validation", shards, "--out", run)
    program.run("reconstruct", run, "--data", shards)

    events = event_accumulator.EventAccumulator(str(run))
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "train/learning_rate", "val/reconstruction_loss"} <= set(tags["scalars"])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    written = [np.float32(line["loss"]) for line in lines if line["kind"] == "train"]
    assert [np.float32(event.value) for event in events.Scalars("train/loss")] == written
    assert tags["images"] == ["reconstruction"]
    picture = events.Images("reconstruction")[0]
    assert picture.encoded_image_string == (run / "pictures" / "reconstruction.png").read_bytes()
    assert picture.step == lines[-1]["step"]

    plugins = plugin_event_accumulator.EventAccumulator(str(run))
    plugins.Reload()
    content = plugins.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    settings = metadata.parse_session_start_info_plugin_data(content).hparams
    assert settings["pretrain.base_lr"].number_value == 0.001
    assert settings["model.name"].string_value == "micro"
