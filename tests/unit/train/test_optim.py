"""Optimizers: Muon and AdamW, learning rates of the parts, groups of parameters."""

import pytest
import torch
from torch import nn

from mm1.errors import ConfigurationError
from mm1.train.build import build_run
from mm1.train.config import PARTS, OptimConfig, frozen_pattern
from mm1.train.engine import build_optimizer
from mm1.train.model import build_model
from mm1.train.muon import takes_muon
from mm1.train.optim import freeze, num_decoder_parameters, parameter_groups
from tests.support.tiny_runs import job_of, small_run

MUON = OptimConfig(name="muon", lr=5e-3, weight_decay=0.01, clip=0)


class Block(nn.Module):
    """Matrices of several shapes, a norm, a bias."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide = nn.Linear(48, 16, bias=True)
        self.tall = nn.Linear(16, 40, bias=False)
        self.square = nn.Linear(16, 16, bias=False)
        self.norm = nn.LayerNorm(16)

    def forward(self, inputs):
        return self.tall(self.norm(self.square(self.wide(inputs))))


def give_gradients(model: nn.Module, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=random)


def model_of(recipe, mixture, tmp_path):
    store, _, mix = mixture
    return build_model(small_run(recipe), mix, store, tmp_path)[0]


def test_muon_makes_the_updates_of_torchs_muon_with_adamw_sized_rates(alone):
    ours, theirs = Block(), Block()
    optimizer = build_optimizer(parameter_groups(ours, MUON, 5e-3), MUON)
    matrices = [parameter for parameter in theirs.parameters() if parameter.ndim == 2]
    reference = torch.optim.Muon(matrices, lr=5e-3, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    before = {name: parameter.detach().clone() for name, parameter in theirs.named_parameters()}
    for step in range(3):
        for model in (ours, theirs):
            give_gradients(model, step)
        optimizer.step()
        reference.step()
    for name, parameter in theirs.named_parameters():
        if parameter.ndim == 2:
            step_ours, step_theirs = (ours.get_parameter(name) - before[name]).detach(), (parameter - before[name]).detach()
            # torch iterates in bfloat16, so the two agree to a few per cent; a wrong scale would be off by factors.
            assert step_ours.norm().item() == pytest.approx(step_theirs.norm().item(), rel=0.02)
            assert nn.functional.cosine_similarity(step_ours.flatten(), step_theirs.flatten(), dim=0) > 0.995


def test_weight_decay_is_a_tenth_of_the_learning_rate_with_adamw(alone):
    """The paper's decay: p <- p (1 - 0.1 lr), here seen alone with a gradient of zero."""
    model, config = Block(), OptimConfig(name="adamw", lr=1e-2)
    optimizer = build_optimizer(parameter_groups(model, config, 1e-2), config)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 1 - 0.1 * 1e-2 if parameter.ndim == 2 else 1
        torch.testing.assert_close(parameter, before[name] * factor, rtol=1e-6, atol=0)


def test_parts_have_learning_rates_of_their_own(mixture, tmp_path):
    model = model_of("mm1_tiny_moe", mixture, tmp_path)
    for name in ("adamw", "muon"):
        config = OptimConfig(name=name, vision_lr_factor=0.1, connector_lr_factor=2, decoder_lr_factor=1)
        plain = OptimConfig(name=name)
        rates = {
            member: (group["peak_lr"], group["weight_decay"] * group["peak_lr"])
            for group in parameter_groups(model, plain, 1e-3)
            for member in group["names"]
        }
        seen = set()
        for group in parameter_groups(model, config, 1e-3):
            for member in group["names"]:
                factor = 0.1 if "vision_tower" in member else 2 if ".connector." in member else 1
                lr, decay = rates[member]
                assert group["peak_lr"] == pytest.approx(factor * lr)
                assert group["weight_decay"] * group["peak_lr"] == pytest.approx(factor * decay)
                seen.add(member)
        assert seen == set(rates)


def test_which_parameters_take_muon(mixture, tmp_path):
    model = model_of("mm1_tiny_moe", mixture, tmp_path)
    taken = {name for name, parameter in model.named_parameters() if takes_muon(name, parameter.shape)}
    assert not [
        name for name in taken if "embed" in name or "norm" in name or name.endswith(".bias") or name == "lm_head.weight"
    ]
    assert any(".experts." in name for name in taken)
    assert not any(name.endswith("mlp.gate.weight") for name in taken)
    assert any("q_proj" in name for name in taken)
    groups = parameter_groups(model, MUON, 5e-3)
    grouped = [name for group in groups for name in group["names"]]
    assert sorted(grouped) == sorted(name for name, _ in model.named_parameters())
    assert {name for group in groups if group["use_muon"] for name in group["names"]} == taken


def test_names_and_parameters_of_a_group_stay_in_step(mixture, tmp_path):
    model = model_of("mm1_tiny_moe", mixture, tmp_path)
    groups = parameter_groups(model, MUON, 5e-3)
    for group, held in zip(groups, build_optimizer(groups, MUON).param_groups, strict=True):
        assert [id(model.get_parameter(name)) for name in group["names"]] == [id(parameter) for parameter in held["params"]]


def test_freezing(mixture, tmp_path):
    model = model_of("mm1_tiny", mixture, tmp_path)
    freeze(model, (r"vision_tower", r"norm"))
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if "vision_tower" in name or "norm" in name}
    with pytest.raises(ConfigurationError, match="no parameter name matches 'vision_towre'"):
        freeze(model, ("vision_towre",))
    with pytest.raises(ConfigurationError, match="not a regular expression"):
        freeze(model, ("(",))
    with pytest.raises(ConfigurationError, match=r"'\.' matches every parameter: nothing is left.* expected vision,"):
        freeze(model, (".",))
    with pytest.raises(ConfigurationError, match=r"train\.frozen=\['vision', .* excludes every parameter"):
        freeze(model, ("vision", "connector", "decoder"))


@pytest.mark.parametrize("frozen", ["vision,decoder", "connector"])
def test_frozen_parts_stay_and_all_others_change(alone, mixture, tmp_path, frozen):
    store, data, _ = mixture
    config = small_run("mm1_tiny", "train.steps=2", "optim.name=adamw", "schedule.warmup_steps=0", f"train.frozen={frozen}")
    run = build_run(job_of(config, store, data, tmp_path, key=f"frozen-{frozen}"), 0, 1)
    before = {name: parameter.detach().clone() for name, parameter in run.parts.model.named_parameters()}
    run.go()
    stay = {name for name, parameter in run.parts.model.named_parameters() if torch.equal(parameter, before[name])}
    assert stay == {name for name in before if any(frozen_pattern(part).search(name) for part in frozen.split(","))}


def test_named_parts_cover_the_model_without_overlap(mixture, tmp_path):
    names = [name for name, _ in model_of("mm1_tiny_moe", mixture, tmp_path).named_parameters()]
    owners = [[part for part in PARTS if frozen_pattern(part).search(name)] for name in names]
    assert all(len(parts) == 1 for parts in owners)
    assert {part for (part,) in owners} == set(PARTS)


def test_the_decoders_parameters_are_counted_without_embeddings(mixture, tmp_path):
    model = model_of("mm1_tiny", mixture, tmp_path)
    attention = 32 * (32 + 16 + 16) + 32 * 32 + 2 * 16
    feed_forward = 3 * 32 * 64
    assert num_decoder_parameters(model) == 2 * (attention + feed_forward + 2 * 32) + 32
