"""Folders that cannot be used are refused with the remedy, and what folders say about images."""

import json
import shlex
import shutil
from pathlib import Path
from pickle import UnpicklingError

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, CLIPImageProcessor, Qwen3ForCausalLM, SiglipImageProcessor

from mm1.modeling.folders import image_mean_std
from mm1.modeling.modeling import MM1ForConditionalGeneration
from tests.support.tiny_model import tiny_config

FIELDS = {"image_tokens": 4, "connector_type": "average_pool"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("folders")
    torch.manual_seed(0)
    Qwen3ForCausalLM(tiny_config().text_config).save_pretrained(root / "decoder")
    AutoModel.from_config(tiny_config().vision_config).save_pretrained(root / "vision")
    return root


@pytest.fixture
def copy(root, tmp_path):
    return lambda part: shutil.copytree(root / part, tmp_path / part)


def refuse(root, pattern, **parts):
    with pytest.raises(ValueError, match=pattern):
        MM1ForConditionalGeneration.from_parts(**{"vision": root / "vision", "decoder": root / "decoder", **parts}, **FIELDS)


def test_folders_without_a_model_are_refused(root, tmp_path):
    refuse(root, "vision: .*nowhere has no config.json or open_clip_config.json: use the folder", vision=tmp_path / "nowhere")
    refuse(root, "decoder: .* has no config.json of a model", decoder=tmp_path)
    (tmp_path / "config.json").write_text("{}")
    refuse(root, "decoder: .* has no model.safetensors: download the weights", decoder=tmp_path)


def test_pickles_are_refused_and_the_command_in_the_message_converts_them(root, copy, monkeypatch):
    folder = copy("decoder")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    half = len(weights) // 2  # in two files, as large models are
    torch.save(dict(list(weights.items())[:half]), folder / "pytorch_model-00001-of-00002.bin")
    torch.save(dict(list(weights.items())[half:]), folder / "pytorch_model-00002-of-00002.bin")
    with pytest.raises(ValueError, match=r"decoder: .*in pickles only") as refused:
        MM1ForConditionalGeneration.from_parts(root / "vision", folder, **FIELDS)
    command = str(refused.value).split("convert them: ")[1]
    python, option, program, *arguments = shlex.split(command)
    assert (python, option) == ("python", "-c")
    monkeypatch.setattr("sys.argv", [option, *arguments])
    exec(program, {})
    assert load_file(folder / "model.safetensors").keys() == weights.keys()
    model = MM1ForConditionalGeneration.from_parts(root / "vision", folder, **FIELDS)
    assert torch.equal(model.lm_head.weight, weights["lm_head.weight"])
    torch.save({"weight": Path("anything but a tensor")}, folder / "pytorch_model.bin")
    with pytest.raises(UnpicklingError):
        exec(program, {})


def test_an_open_clip_folder_of_pickles_is_refused(root, tmp_path):
    (tmp_path / "open_clip_config.json").write_text("{}")
    torch.save({}, tmp_path / "open_clip_pytorch_model.bin")
    wanted = rf"in pickles only.* {tmp_path} 'open_clip_pytorch_model\.bin' open_clip_model\.safetensors$"
    refuse(root, wanted, vision=tmp_path)
    shutil.copytree(root / "vision", tmp_path, dirs_exist_ok=True)  # now there is another layout besides
    MM1ForConditionalGeneration.from_parts(tmp_path, root / "decoder", **FIELDS)


def test_files_cut_short_are_named(root, copy):
    path = copy("decoder") / "model.safetensors"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"version https://git-lfs.github.com/spec/v1\n", b""):
        path.write_bytes(content)
        refuse(root, "decoder: .*model.safetensors is not a complete safetensors file: download it again", decoder=path.parent)


def test_weights_that_are_missing_or_of_another_shape_are_refused(root, copy):
    path = copy("decoder") / "model.safetensors"
    weights = load_file(path)
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({**weights, name: weights[name][:7].contiguous()}, path, {"format": "pt"})
    refuse(root, "decoder: .* has weights whose shapes do not match its config.json", decoder=path.parent)
    del weights[name]
    save_file(weights, path, {"format": "pt"})
    refuse(root, rf"lacks 1 weights of its configuration \({name}\): download it again", decoder=path.parent)


def test_a_tower_may_lack_what_is_not_kept(root, copy):
    path = copy("vision") / "model.safetensors"
    weights = load_file(path)
    save_file({name: tensor for name, tensor in weights.items() if "post_layernorm" not in name}, path, {"format": "pt"})
    MM1ForConditionalGeneration.from_parts(path.parent, root / "decoder", **FIELDS)
    del weights["pre_layrnorm.weight"]
    save_file(weights, path, {"format": "pt"})
    refuse(root, "vision: .* lacks 1 weights", vision=path.parent)


def test_code_that_comes_with_a_folder_is_not_run(root, copy):
    folder = copy("decoder")
    fields = json.loads((folder / "config.json").read_text())
    fields |= {"model_type": "stranger", "auto_map": {"AutoConfig": "stranger.Config"}}
    (folder / "config.json").write_text(json.dumps(fields))
    (folder / "stranger.py").write_text("raise SystemExit('run')\n")
    refuse(root, "decoder: .* is a model with custom code, which is not run", decoder=folder)


def test_mean_and_deviation_come_from_the_folder(tmp_path):
    def written(folder, **files):
        (tmp_path / folder).mkdir()
        for name, fields in files.items():
            (tmp_path / folder / f"{name}.json").write_text(json.dumps(fields))
        return tmp_path / folder

    half, clip = (0.5, 0.5, 0.5), tuple(CLIPImageProcessor().image_mean)
    SiglipImageProcessor().save_pretrained(tmp_path / "siglip")
    CLIPImageProcessor().save_pretrained(tmp_path / "clip")
    assert image_mean_std(tmp_path / "siglip") == (half, half)
    assert image_mean_std(tmp_path / "clip")[0] == clip
    nested = {"image_processor": {"image_mean": [0.1, 0.2, 0.3], "image_std": half}, "processor_class": "CLIPProcessor"}
    assert image_mean_std(written("nested", processor_config=nested)) == ((0.1, 0.2, 0.3), half)
    assert image_mean_std(written("open_clip", open_clip_config={"preprocess_cfg": {"mean": half, "std": clip}})) == (
        half,
        clip,
    )
    assert (
        image_mean_std(written("silent", preprocessor_config={"do_resize": True}, open_clip_config={"model_cfg": {}})) is None
    )
    assert image_mean_std(written("empty")) is None
    with pytest.raises(ValueError, match=r"image_mean and image_std in .*preprocessor_config\.json must be three numbers"):
        image_mean_std(written("grey", preprocessor_config={"image_mean": 0.5, "image_std": half}))
