"""``mm1 plan``: what it proposes for every recipe, what it refuses, what it prints."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from mm1.config.resolve import resolve
from mm1.errors import ConfigurationError
from mm1.recipes import registry
from mm1.train.plan.forecast import Forecast, Machine, forecast, overrides_of, propose, smallest
from mm1.train.plan.speed import GPUS
from mm1_workflows import cli
from mm1_workflows.authoring import profiles
from mm1_workflows.authoring.load import load
from mm1_workflows.cli.commands.plan import complete
from mm1_workflows.cli.commands.submit import _forecast_warning
from mm1_workflows.cli.commands.submit_forecast import warning

ROOT = Path(__file__).parents[3]

RECIPES = Path(__file__).parents[3] / "docs" / "reference" / "recipes.md"
COLUMNS = ("recipe", "ZeRO stage", "experts shared by", "recomputed", "micro-batch", "GiB a GPU", "GPUs")
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
MODEL_OF_INIT = {
    "mm1_continual": "mm1_3b",
    "mm1_5_sft": "mm1_3b",
    "mm1_sft": "mm1_3b",
    "mm1_sft_1344": "mm1_3b",
    "mm1_tiny_continual": "mm1_tiny",
    "mm1_tiny_sft": "mm1_tiny",
}
FORECAST = [name for name in registry.names() if registry.get(name).stage != "vision"]


def named_gpus() -> dict[str, int]:
    """Recipes of the page's table of layouts, with the GPUs that it names."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| (\d+) \|$", RECIPES.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: int(gpus) for name, gpus in rows}


@pytest.mark.parametrize("name", FORECAST)
def test_every_recipe_has_a_layout_that_fits_80_gb(name):
    gpus = named_gpus().get(name, 1)
    config = complete(registry.get(name), MODEL_OF_INIT.get(name, ""))
    proposed = propose(config, Machine(gpus, "a100-80"))
    assert proposed.fits
    assert sum(proposed.memory_gib.values()) <= 0.9 * GPUS["a100-80"].memory_gib
    # The overrides alone give the same forecast.
    again = forecast(resolve(config, overrides_of(proposed)), Machine(gpus, "a100-80"))
    assert (again.memory_gib, again.speed) == (proposed.memory_gib, proposed.speed)


@pytest.mark.parametrize("model", ["", "mm1_3b"])
def test_the_stage_of_the_vision_tower_is_refused_rather_than_guessed(model):
    for name in set(registry.names()) - set(FORECAST):
        with pytest.raises(ConfigurationError, match=f"recipe {name}: stage vision is not forecast"):
            complete(registry.get(name), model)
    with pytest.raises(ConfigurationError, match="stage vision is not forecast"):
        forecast(registry.get("mm1_tiny_clip"), Machine(1))


@pytest.mark.parametrize(
    ("name", "gpus"),
    [
        ("mm1_1b", 8),
        ("mm1_3b", 8),
        ("mm1_7b", 8),
        ("mm1_30b", 16),
        ("mm1_3b_moe", 32),
        ("mm1_7b_moe", 32),
        ("mm1_continual", 8),
        ("mm1_sft", 8),
    ],
)
def test_the_recipes_own_layouts_fit_the_machines_that_the_page_names(name, gpus):
    found = forecast(complete(registry.get(name), MODEL_OF_INIT.get(name, "")), Machine(gpus, "h100"))
    assert found.fits, found.memory_gib
    assert max(found.host_gib.values()) < 1600  # mm1_workflows/profiles/pools.yaml


def row(name: str) -> str:
    kept = resolve(complete(registry.get(name), MODEL_OF_INIT.get(name, "")), ["train.offload=none"])
    least = smallest(kept, Machine(1), ["offload"])
    assert least is not None
    train = least.config.train
    shared = str(train.expert_parallel) if train.expert_parallel > 1 else ""
    again = "yes" if train.gradient_checkpointing else "no"
    layout = f"{train.zero_stage} | {shared} | {again} | {train.micro_batch}"
    return f"| `{name}` | {layout} | {least.total_gib:.0f} | {least.machine.gpus} |\n"


@pytest.mark.golden
def test_the_page_has_the_layouts_of_the_fewest_gpus():
    table = HEAD + "".join(row(name) for name in FORECAST if registry.get(name).sequence)
    block = re.compile(r"(<!-- layouts: .*? -->\n)(.*?)(<!-- /layouts -->)", re.DOTALL)
    if os.environ.get("MM1_UPDATE_GOLDEN"):
        text = block.sub(lambda found: found[1] + table + found[3], RECIPES.read_text(encoding="utf-8"))
        RECIPES.write_text(text, encoding="utf-8")
    found = block.search(RECIPES.read_text(encoding="utf-8"))
    assert found and found[2] == table, "docs/reference/recipes.md: `make golden` writes its table anew if the change is meant"


def test_fields_that_are_set_stay_and_the_rest_follows():
    config = resolve(registry.get("mm1_7b"), ["train.gradient_checkpointing=true"])
    proposed = propose(config, Machine(8), ["gradient_checkpointing"])
    assert proposed.config.train.gradient_checkpointing
    assert not propose(config, Machine(8)).config.train.gradient_checkpointing


def test_more_gpus_take_less_memory_and_time():
    config = registry.get("mm1_30b")
    few, many = (forecast(config, Machine(gpus)) for gpus in (16, 64))
    assert few.memory_gib["optimizer"] == pytest.approx(4 * many.memory_gib["optimizer"])
    assert few.speed.step_s > 3 * many.speed.step_s
    assert few.speed.flops == many.speed.flops


def test_a_given_mfu_is_reached_where_the_network_hides():
    found = forecast(registry.get("mm1_3b"), Machine(1, mfu=0.5))
    assert found.speed.reached_mfu == pytest.approx(0.5)
    assert found.gpu_hours == pytest.approx(200_000 * found.speed.flops.total / (989e12 * 0.5) / 3600)


def tuned(*overrides: str, gpus: int = 16) -> Forecast:
    return forecast(resolve(complete(registry.get("mm1_sft"), "mm1_3b"), ["optim.name=adamw", *overrides]), Machine(gpus))


def test_what_is_frozen_takes_less_time_and_memory():
    whole, tower, adapters = tuned(), tuned("train.frozen=vision"), tuned("train.lora.rank=16")
    assert whole.speed.flops.vision == pytest.approx(3 * tower.speed.flops.vision, rel=0.01)
    assert whole.speed.flops.decoder == tower.speed.flops.decoder == pytest.approx(1.5 * adapters.speed.flops.decoder, rel=0.02)
    assert whole.num_trained == whole.num_parameters and adapters.num_trained < 0.01 * adapters.num_parameters
    assert whole.num_trained - tower.num_trained == pytest.approx(0.631e9, rel=0.01)
    for kind in ("gradients", "optimizer", "activations"):
        assert whole.memory_gib[kind] > tower.memory_gib[kind] > adapters.memory_gib[kind], kind
    assert whole.start_gib > tower.start_gib > adapters.start_gib
    assert whole.speed.step_s > tower.speed.step_s > adapters.speed.step_s


def test_recomputing_repeats_only_what_has_a_backward_pass():
    shares = [
        tuned(*overrides).speed.mfu / tuned(*overrides, "train.gradient_checkpointing=false").speed.mfu
        for overrides in ((), ("train.frozen=vision,connector",), ("train.lora.rank=16", "train.lora.parts=vision,decoder"))
    ]
    everything, decoder, adapters = shares
    assert everything == pytest.approx(3 / 4, rel=0.01)
    assert decoder > everything > adapters
    assert adapters == pytest.approx(2 / 3, rel=0.02)


def test_gradients_of_frozen_weights_are_not_sent():
    layout = ("train.zero_stage=0", "train.micro_batch=1")
    whole, adapters = (tuned(*layout, *overrides) for overrides in ((), ("train.lora.rank=16",)))
    share = adapters.num_trained / whole.num_trained
    assert adapters.speed.network_s == pytest.approx(share * whole.speed.network_s)


def test_a_name_that_freezes_nothing_is_refused(capsys):
    assert cli.main(["plan", "--recipe", "mm1_3b", "--set", "train.frozen=visoin"]) == 80
    assert "train.frozen: no parameter name matches 'visoin'" in capsys.readouterr().err


def test_it_prints_how_much_is_trained(capsys):
    command = ["plan", "--recipe", "mm1_sft", "--model", "mm1_3b", "--set", "train.lora.rank=16"]
    assert cli.main(command) == 0
    assert re.search(r"^[\d.]+M of them trained$", capsys.readouterr().out, re.MULTILINE)
    assert cli.main([*command, "--json"]) == 0
    proposed = json.loads(capsys.readouterr().out)["proposed"]
    assert 0 < proposed["trained_parameters"] < 0.02 * proposed["parameters"]


def test_a_slower_network_makes_steps_longer():
    config = resolve(registry.get("mm1_7b"), ["train.zero_stage=3"])
    fast, tcp = (forecast(config, Machine(16, network_gb_s=gb_s)).speed for gb_s in (0, 12.5))
    assert tcp.network_s > fast.network_s and tcp.compute_s == fast.compute_s
    assert forecast(config, Machine(8, network_gb_s=12.5)).speed == forecast(config, Machine(8)).speed, (
        "NVLink within a machine"
    )
    with pytest.raises(ConfigurationError, match="network: expected GB/s of a machine, at least 0, got -1"):
        Machine(16, network_gb_s=-1)


def test_what_does_not_fit_is_refused_with_what_would_help():
    config = resolve(registry.get("mm1_30b"), ["train.offload=none"])
    with pytest.raises(ConfigurationError, match=r"no layout fits 2 h100 with 71 GiB.* still needs 265 GiB\. Use 16 GPUs"):
        propose(config, Machine(2), ["offload"])
    with pytest.raises(ConfigurationError, match="whole weights on its GPU until ZeRO partitions them"):
        propose(config, Machine(64, "a100-40"), ["offload"])
    with pytest.raises(ConfigurationError, match=r"train\.global_batch=512 sequences cannot be split over 3 processes"):
        propose(config, Machine(3))
    pooled = resolve(config, ["model.connector.type=attention_pool", "model.connector.num_heads=7"])
    with pytest.raises(ConfigurationError, match=r"num_heads=7 does not divide model\.decoder\.hidden_size=6144"):
        propose(pooled, Machine(64))
    with pytest.raises(ConfigurationError, match="unknown gpu 'b1': expected one of a100-40"):
        Machine(8, "b1")


def test_it_prints_json(capsys):
    assert cli.main(["plan", "--recipe", "mm1_3b", "--gpus", "8", "--set", "train.zero_stage=2", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["proposed"]["train"]["zero_stage"] == 2
    assert printed["proposed"]["fits"]
    assert printed["as_it_is"]["memory_gib"]["weights"] == pytest.approx(2 * 3.58e9 / 2**30, rel=0.01)


def test_it_exits_80_when_nothing_fits(capsys):
    assert cli.main(["plan", "--recipe", "mm1_30b", "--gpus", "1", "--gpu", "a100-40"]) == 80
    shown = capsys.readouterr()
    assert "does not fit" in shown.out
    assert "no layout fits 1 a100-40" in shown.err
    assert cli.main(["plan", "--recipe", "mm1_sft"]) == 80
    assert "--model mm1_3b" in capsys.readouterr().err


def test_its_table_fits_80_columns(capsys):
    assert cli.main(["plan", "--recipe", "mm1_3b_moe", "--gpus", "32"]) == 0
    shown = capsys.readouterr().out
    *lines, overrides = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert "GPU-hours" in shown
    assert "network: 70% of 400 GB/s per machine (EFA, InfiniBand; for TCP set --network)" in shown
    assert overrides.startswith('-p overrides="train.micro_batch=') and "train.zero_stage=" in overrides


def test_it_names_a_network_only_between_machines(capsys):
    assert cli.main(["plan", "--recipe", "mm1_3b", "--gpus", "16", "--network", "12.5"]) == 0
    assert "network: 70% of 12.5 GB/s per machine (as given)" in capsys.readouterr().out
    assert cli.main(["plan", "--recipe", "mm1_3b", "--gpus", "8"]) == 0
    assert "GB/s" not in capsys.readouterr().out


def test_figures_of_a_tiny_model_are_no_zeros(capsys):
    assert cli.main(["plan", "--recipe", "mm1_tiny", "--gpus", "1", "--gpu", "l40s"]) == 0
    shown = capsys.readouterr().out
    assert "k parameters" in shown.splitlines()[0] and shown.splitlines()[1].startswith("vocabulary of 1,024 tokens; 1 l40s")
    row = next(line for line in shown.splitlines() if line.startswith("GPU-hours"))
    assert float(row.split()[-1]) > 0


@pytest.mark.parametrize(
    ("recipe", "nodes", "days", "said"),
    [
        ("mm1_30b", "8", 1, True),
        ("mm1_30b", "8", 3650, False),
        ("mm1_tiny", "1", 90, False),
        ("mm1_sft", "1", 1, False),
    ],
)
def test_a_submission_longer_than_its_time_limit_is_warned_of(recipe, nodes, days, said):
    values = {"recipe": recipe, "nodes": nodes, "sequence_length": "4096", "max_images": "16"}
    values |= {"image_size": "378", "image_tokens": "144", "pool": ""}
    text = warning(values, profiles.read("default"), days * 86_400)
    assert bool(text) is said
    if said:
        assert re.search(r"forecast to take [\d,]+ days on 64 x h100, longer than the time limit", text)
        assert "24.0 hours" in text
        assert "raise run_seconds in the profile" in text


def test_a_submission_without_a_limit_is_not_warned_of_and_one_with_a_short_limit_is(tmp_path):
    (tmp_path / "site.yaml").write_text("run_seconds: 3600\n")
    given = {"recipe": "mm1_30b", "nodes": "8", "sequence_length": "4096", "max_images": "16"}
    given |= {"image_size": "378", "image_tokens": "144"}
    for profile, limited in (("default", False), (str(tmp_path / "site.yaml"), True)):
        loaded = load(str(ROOT / "workflows/pretrain.py"), profile)
        for item in loaded.document["spec"]["arguments"]["parameters"]:
            item["value"] = given.get(item["name"], item.get("value"))
        text = _forecast_warning(loaded.document, profiles.read(profile))
        assert ("longer than the time limit of the run (1.0 hours)" in text) is limited
        assert bool(text) is limited


def test_runs_without_gpus_or_training_are_not_forecast():
    limit = 1
    assert warning({"recipe": "mm1_30b"}, profiles.read("smoke"), limit) == ""
    assert warning({"captions": "world:0"}, profiles.read("default"), limit) == ""
    assert warning({"recipe": "no_such"}, profiles.read("default"), limit) == ""
