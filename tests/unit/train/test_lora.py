"""LoRA: what is trained and stored, resumed runs, merged and unmerged models, folders of peft, refused settings."""

import json
import signal

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from mm1.checkpoint import adapters
from mm1.checkpoint.open import open_model
from mm1.checkpoint.read import load_model
from mm1.data.load.freeze import with_layout
from mm1.errors import CheckpointError, ConfigurationError, Preempted
from mm1.evals.models.config import ModelSettings
from mm1.evals.models.find import find_model
from mm1.generation.generator import Generator
from mm1.generation.prompt import Request
from mm1.manifests import Checkpoint, digest_of_manifest, load, manifest_key, publish
from mm1.store.local import LocalStore
from mm1.train.build import build_run
from mm1.train.config import LoraConfig
from mm1.train.lora import peft_config, target_modules
from mm1.train.model_origin import settle_parts
from mm1_workflows.cli import main
from tests.support.mixtures import encoded_image
from tests.support.tiny_model import packed_batch, tiny_model
from tests.support.tiny_runs import job_of, small_run

LORA = ("train.steps=3", "optim.name=adamw", "optim.lr=1e-2", "schedule.warmup_steps=0", "train.lora.rank=4")


def start(mixture, folder, key, base, *overrides, store=None):
    """A run of adapters on a base checkpoint."""
    where, data, _ = mixture
    config = settle_parts(small_run("mm1_tiny_sft", *LORA, *overrides), "pretrain", "", "")
    job = job_of(small_run("mm1_tiny"), store or where, data, folder / key, key=f"{folder.name}-{key}")
    return build_run(job.model_copy(update={"config": config, "init": base}), 0, 1)


@pytest.fixture(scope="module")
def base(mixture, tmp_path_factory):
    """Address of a pre-trained checkpoint."""
    from tests.support.tiny_runs import one_process

    one_process()
    store, data, _ = mixture
    folder = tmp_path_factory.mktemp("base")
    return (
        build_run(job_of(small_run("mm1_tiny", "train.steps=1"), store, data, folder, key="base-of-adapters"), 0, 1)
        .go()
        .manifest
    )


@pytest.fixture(scope="module")
def tuned(mixture, base, tmp_path_factory):
    """Checkpoint with adapters, and a connector that was trained whole."""
    folder = tmp_path_factory.mktemp("tuned")
    run = start(mixture, folder, "tuned", base, 'train.lora.trained=["connector"]', "train.keep_state=true")
    return load(run.go().manifest, Checkpoint)


def logits_of(model, seed=0):
    batch = packed_batch([[12, 8]], seed=seed, vocab_size=200)
    with torch.no_grad():
        return model(**{name: value for name, value in batch.items() if name != "labels"}).logits


def test_a_checkpoint_holds_the_adapters_and_the_blobs_of_its_base(alone, mixture, base, tuned):
    origin = load(base, Checkpoint)
    weights = [name for name in origin.model if name.endswith(".safetensors")]
    assert [tuned.model[name] for name in weights] == [origin.model[name] for name in weights]
    adapter = {name: ref for name, ref in tuned.model.items() if name.startswith("adapter/")}
    assert set(adapter) == {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    assert digest_of_manifest(origin) in tuned.parents
    assert sum(ref.num_bytes for ref in tuned.trainer.values()) < origin.model["model.safetensors"].num_bytes
    fields = json.loads(mixture[0].get_bytes(adapter["adapter/adapter_config.json"]))
    assert (fields["r"], fields["lora_alpha"], fields["modules_to_save"]) == (4, 8, ["connector"])


def test_only_adapters_and_parts_on_request_change(alone, mixture, base, tmp_path):
    run = start(mixture, tmp_path, "run", base, 'train.lora.trained=["connector"]', 'train.lora.parts=["vision", "decoder"]')
    before = {name: parameter.detach().clone() for name, parameter in run.parts.model.named_parameters()}
    run.go()
    changed = {name for name, parameter in run.parts.model.named_parameters() if not torch.equal(parameter, before[name])}
    expected = {name for name in before if ".lora_" in name or ".modules_to_save." in name}
    assert changed == expected
    assert any("vision_tower" in name for name in changed) and any("language_model" in name for name in changed)


def test_a_killed_run_goes_on_bit_by_bit(alone, mixture, base, tuned, tmp_path):
    options = ('train.lora.trained=["connector"]', "train.keep_state=true")
    cut = start(mixture, tmp_path, "cut", base, *options)
    cut.loop.callbacks[-1].signal = signal.SIGTERM
    with pytest.raises(Preempted):
        cut.go()
    resumed = start(mixture, tmp_path, "cut", base, *options)
    assert resumed.progress.step == 1
    assert load(resumed.go().manifest, Checkpoint) == tuned


def test_merged_and_unmerged_models_are_base_plus_b_times_a(alone, mixture, base, tuned, tmp_path):
    store = mixture[0]
    unmerged, _ = load_model(store, tuned, tmp_path / "unmerged")
    merged, _ = load_model(store, tuned, tmp_path / "merged", merge=True)
    original, _ = load_model(store, load(base, Checkpoint), tmp_path / "base")
    assert adapters.is_adapted(unmerged) and not adapters.is_adapted(merged)
    assert set(merged.state_dict()) == set(original.state_dict())
    tensors = load_file(store.local_path(tuned.model["adapter/adapter_model.safetensors"]))
    for name, weight in original.named_parameters():
        path = f"{adapters.PREFIX}{name.removesuffix('.weight')}"
        if f"{path}.lora_A.weight" in tensors:
            weight = weight + 2 * tensors[f"{path}.lora_B.weight"] @ tensors[f"{path}.lora_A.weight"]
        elif ".connector." in name:
            weight = tensors[f"{adapters.PREFIX}{name}"]
        torch.testing.assert_close(merged.get_parameter(name), weight)
    assert not torch.allclose(logits_of(original), logits_of(merged), atol=1e-3)
    torch.testing.assert_close(logits_of(unmerged), logits_of(merged), rtol=1e-4, atol=1e-4)


def test_the_answers_of_the_unmerged_model_are_those_of_the_merged_one(alone, mixture, tuned, tmp_path):
    requests = [Request((f"what is {text} ?",)) for text in ("red", "a big ring")]
    texts = []
    for merge in (False, True):
        model, processor = load_model(mixture[0], tuned, tmp_path / f"{merge}", merge=merge)
        completions = Generator(model, processor).generate(requests, max_new_tokens=6)
        texts.append([completion.tokens for completion in completions])
    assert texts[0] == texts[1] and all(texts[0])


def test_peft_loads_the_adapter_by_itself_and_the_folder_it_saves_is_served(alone, mixture, base, tuned, tmp_path):
    store = mixture[0]
    expected, _ = load_model(store, tuned, tmp_path / "files")
    original, _ = load_model(store, load(base, Checkpoint), tmp_path / "base")
    by_peft = PeftModel.from_pretrained(original, str(tmp_path / "files" / "adapter"))
    torch.testing.assert_close(logits_of(by_peft.base_model.model), logits_of(expected))
    by_peft.peft_config["default"].base_model_name_or_path = base
    by_peft.save_pretrained(tmp_path / "back", save_embedding_layers=False)
    opened = open_model(str(tmp_path / "back"))
    torch.testing.assert_close(logits_of(opened.model), logits_of(expected))


def test_an_exported_adapter_finds_its_base_and_a_merged_export_needs_none(alone, mixture, base, tuned, tmp_path):
    store = mixture[0]
    address = f"{store.uri}/{manifest_key(digest_of_manifest(tuned))}"
    expected = logits_of(load_model(store, tuned, tmp_path / "files")[0])
    assert main(["export", address, str(tmp_path / "adapter"), "--adapter"]) == 0
    assert main(["export", address, str(tmp_path / "adapter"), "--adapter", "--force"]) == 0
    torch.testing.assert_close(logits_of(open_model(str(tmp_path / "adapter")).model), expected)
    assert find_model(str(tmp_path / "adapter"), ModelSettings()).kind == "mm1"
    assert main(["export", base, str(tmp_path / "none"), "--adapter"]) == 80
    assert main(["export", address, str(tmp_path / "whole")]) == 0
    assert not (tmp_path / "whole" / "adapter").exists()
    torch.testing.assert_close(logits_of(open_model(str(tmp_path / "whole")).model), expected, rtol=1e-4, atol=1e-4)


def test_adapters_have_their_own_division_of_images(alone, mixture, base, tmp_path):
    store, _, mix = mixture
    tiled = with_layout(mix, "static", store)
    address = start((store, publish(store, tiled), tiled), tmp_path, "tiled", base).go().manifest
    image = encoded_image(0, size=(40, 20))
    expected = None
    for folder, options in (("adapter", ["--adapter"]), ("whole", [])):
        assert main(["export", address, str(tmp_path / folder), *options]) == 0
    assert (tmp_path / "adapter" / "chat_template.jinja").read_text() == open_model(base).processor.chat_template
    for name in (address, str(tmp_path / "adapter"), str(tmp_path / "whole")):
        opened = open_model(name)
        assert opened.processor.image_layout == "static", name
        (answer,) = Generator(opened.model, opened.processor).generate([Request((image, "what ?"))], max_new_tokens=4)
        expected = expected or answer
        assert (answer.num_prompt_tokens, answer.text) == (expected.num_prompt_tokens, expected.text), name
    assert expected.num_prompt_tokens > 5 * mix.image_tokens
    assert open_model(base).processor.image_layout == ""
    card = (tmp_path / "whole" / "README.md").read_text()
    assert f"{sum(parameter.numel() for parameter in opened.model.parameters()):,} parameters" in card
    assert "into up to 5 tiles of 4 tokens" in card and "each image takes up to 20." in card


def test_frozen_adapters_are_stored_too(alone, mixture, base, tmp_path):
    parts = ('train.lora.trained=["connector"]', 'train.lora.parts=["vision", "decoder"]')
    run = start(mixture, tmp_path, "frozen", base, *parts, "train.frozen=connector,vision")
    before = {name: tensor.clone() for name, tensor in run.parts.model.state_dict().items()}
    loaded, _ = load_model(mixture[0], load(run.go().manifest, Checkpoint), tmp_path / "files")
    changed = {name for name, tensor in loaded.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all(".language_model." in name and ".lora_" in name for name in changed)


def test_the_next_run_goes_on_with_the_adapters_or_merges_them(alone, mixture, base, tuned, tmp_path):
    store = mixture[0]
    address = f"{store.uri}/{manifest_key(digest_of_manifest(tuned))}"
    again = start(mixture, tmp_path, "again", address, 'train.lora.trained=["connector"]').go()
    assert load(again.manifest, Checkpoint).model["model.safetensors"] == tuned.model["model.safetensors"]
    with pytest.raises(ConfigurationError, match="init has adapters with r=4, and this run asks for 8"):
        start(mixture, tmp_path, "other", address, "train.lora.rank=8")
    whole = start(mixture, tmp_path, "whole", address, "train.lora.rank=0")
    merged, _ = load_model(store, tuned, tmp_path / "merged", merge=True)
    assert all(parameter.requires_grad for parameter in whole.parts.model.parameters())
    for name, parameter in whole.parts.model.named_parameters():
        torch.testing.assert_close(parameter, merged.get_parameter(name))


def test_a_base_in_another_store_is_copied(alone, mixture, base, tmp_path):
    other = LocalStore(tmp_path / "other")
    result = start(mixture, tmp_path, "elsewhere", base, store=other).go()
    load_model(other, load(result.manifest, Checkpoint), tmp_path / "loaded")


def test_targets_are_ends_of_names_within_the_parts():
    model = tiny_model()
    every = target_modules(model, LoraConfig(rank=2))
    assert all(name.startswith("model.language_model.") for name in every) and len(every) == 2 * 7
    assert len(target_modules(model, LoraConfig(rank=2, parts=("vision", "connector", "decoder")))) > len(every)
    named = target_modules(model, LoraConfig(rank=2, targets=("q_proj", "v_proj")))
    assert {name.rpartition(".")[2] for name in named} == {"q_proj", "v_proj"} and len(named) == 4
    with pytest.raises(
        ConfigurationError, match=r"no linear layer of decoder has such a name; expected all-linear or some of down_proj"
    ):
        target_modules(model, LoraConfig(rank=2, targets=("query",)))
    assert peft_config(model, LoraConfig(rank=2)).lora_alpha == 4


def test_an_adapter_of_another_model_is_refused(alone, mixture, tuned, tmp_path):
    load_model(mixture[0], tuned, tmp_path / "files")
    with pytest.raises(CheckpointError, match="does not fit its base model"):
        adapters.load_adapter(tiny_model(), tmp_path / "files" / "adapter")
    with pytest.raises(ConfigurationError, match="is no adapter: expected"):
        adapters.load_adapter(tiny_model(), tmp_path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.lora.alpha=8"], "lora.alpha has no effect without lora.rank: set lora.rank=8"),
        (["train.lora.rank=2", 'train.lora.trained=["decoder"]'], "trained"),
        (["train.lora.rank=2", 'train.lora.parts=["connector"]', 'train.lora.trained=["connector"]'], "both name connector"),
        (["train.lora.rank=2", "stage=text"], "a text base and a tower are trained whole"),
    ],
)
def test_settings_without_effect_are_refused(overrides, message):
    with pytest.raises(ConfigurationError, match=message):
        small_run("mm1_tiny_sft", *overrides)


def test_adapters_need_a_whole_model():
    config = small_run("mm1_tiny", "train.lora.rank=2")
    for stage in ("", "text", "imported"):
        with pytest.raises(ConfigurationError, match=r"train\.lora\.rank=2: adapters need a whole model as init"):
            settle_parts(config, stage, "", "")
