"""Adafactor against its formula written down plainly, against transformers', and on partitions of parameters."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.optimization import Adafactor as TransformersAdafactor

from mm1.train.adafactor import Adafactor, Part, _inverse_roots, _sums
from mm1.train.config import OptimConfig
from mm1.train.engine import build_optimizer
from mm1.train.optim import parameter_groups

SHAPES = {"wide": (16, 48), "experts": (3, 8, 5), "kernel": (6, 2, 3, 3), "column": (7, 1), "norm": (16,), "zero": (12, 10)}


def model(scale=0.02):
    torch.manual_seed(0)
    module = nn.Module()
    for name, shape in SHAPES.items():
        module.register_parameter(name, nn.Parameter(torch.randn(shape) * (0 if name == "zero" else scale)))
    return module


def give_gradients(module, step, scale=1.0):
    random = torch.Generator().manual_seed(step)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=random) * scale * 2.0 ** (step % 3)


def by_the_paper(parameters, gradients, rate, *, parameter_scale, first_moment, weight_decay):
    """Algorithms 4 and 5 of arXiv 1804.04235 in float64, with mean instead of sum (the same ratio), for one tensor."""
    weights, mean, second = parameters.double(), 0.0, None
    for number, gradient in enumerate(gradients, start=1):
        squares, beta = gradient.double() ** 2 + 1e-30, 1 - number**-0.8
        if weights.ndim < 2:
            second = (1 - beta) * squares + beta * (0 if second is None else second)
            estimate = second
        else:
            row, column = squares.mean(-1, keepdim=True), squares.mean(-2, keepdim=True)
            old_row, old_column = (0, 0) if second is None else second
            second = ((1 - beta) * row + beta * old_row, (1 - beta) * column + beta * old_column)
            estimate = second[0] * second[1] / second[0].mean(-2, keepdim=True)
        update = gradient.double() / estimate.sqrt()
        update = update / max(1.0, float(update.square().mean().sqrt()))
        mean = first_moment * mean + (1 - first_moment) * update
        scale = max(1e-3, float(weights.square().mean().sqrt())) if parameter_scale else 1.0
        weights = weights * (1 - rate * weight_decay if weights.ndim >= 2 else 1) - rate * scale * mean
    return weights


@pytest.mark.parametrize("first_moment", [0.0, 0.9])
@pytest.mark.parametrize("parameter_scale", [False, True])
def test_updates_are_those_of_the_paper(parameter_scale, first_moment):
    choice = {"parameter_scale": parameter_scale, "first_moment": first_moment, "weight_decay": 0.3}
    config, module, gradients = OptimConfig(name="adafactor", **choice), model(), {name: [] for name in SHAPES}
    optimizer = build_optimizer(parameter_groups(module, config, 1e-2), config)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    for step in range(5):
        give_gradients(module, step)
        for name, parameter in module.named_parameters():
            gradients[name].append(parameter.grad.clone())
        optimizer.step()
    for name, parameter in module.named_parameters():
        expected = by_the_paper(before[name], gradients[name], 1e-2, **choice)
        torch.testing.assert_close(parameter.detach().double(), expected, rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("parameter_scale", [False, True])
def test_updates_are_those_of_transformers(parameter_scale):
    config, own, other = OptimConfig(name="adafactor", parameter_scale=parameter_scale, weight_decay=0), model(), model()
    optimizer = build_optimizer(parameter_groups(own, config, 1e-2), config)
    reference = TransformersAdafactor(
        other.parameters(), lr=1e-2, relative_step=False, scale_parameter=parameter_scale, clip_threshold=1.0
    )
    for step in range(4):
        for module, stepper in ((own, optimizer), (other, reference)):
            give_gradients(module, step)
            stepper.step()
    for name, parameter in own.named_parameters():
        torch.testing.assert_close(parameter, other.get_parameter(name), rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-9])
def test_every_tensor_moves_by_the_rate_whatever_the_size_of_weights_and_gradients(size):
    config, module = OptimConfig(name="adafactor", weight_decay=0), model()
    optimizer = build_optimizer(parameter_groups(module, config, 1e-5), config)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    give_gradients(module, 0, size)
    optimizer.step()
    for name, parameter in module.named_parameters():
        moved = (parameter - before[name]).detach().square().mean().sqrt()
        assert 0.8e-5 < float(moved) < 1.01e-5, name


def test_a_relative_rate_moves_tensors_by_their_size():
    config, module = OptimConfig(name="adafactor", parameter_scale=True, weight_decay=0), model(scale=0.5)
    optimizer = build_optimizer(parameter_groups(module, config, 1e-2), config)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    give_gradients(module, 0)
    optimizer.step()
    for name, parameter in module.named_parameters():
        scale = max(1e-3, float(before[name].square().mean().sqrt()))
        assert (parameter - before[name]).detach().square().mean().sqrt().item() == pytest.approx(1e-2 * scale, rel=0.2), name


def test_a_gradient_of_zero_moves_nothing():
    config, module = OptimConfig(name="adafactor", weight_decay=0), model()
    optimizer = build_optimizer(parameter_groups(module, config, 1e-2), config)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert all(torch.equal(parameter, before[name]) for name, parameter in module.named_parameters())
    give_gradients(module, 0)
    module.wide.grad[3] = 0  # a token that does not occur
    optimizer.step()
    assert torch.equal(module.wide[3], before["wide"][3])
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_the_state_of_a_matrix_is_a_row_and_a_column():
    config, module = OptimConfig(name="adafactor"), model()
    optimizer = build_optimizer(parameter_groups(module, config, 1e-2), config)
    assert isinstance(optimizer, Adafactor)
    give_gradients(module, 0)
    optimizer.step()
    sizes = {name: sum(factor.numel() for factor in factors.values()) for name, factors in optimizer.factors.items()}
    assert sizes == {"wide": 16 + 48, "experts": 3 * (8 + 5), "kernel": 12 * (3 + 3), "column": 7 + 1, "zero": 12 + 10}
    kept = [value for held in optimizer.state.values() for value in held.values()]
    assert sum(value.numel() for value in kept) == 16  # the norm's variance


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_parts_of_a_matrix_make_up_the_whole(data):
    shape = data.draw(st.sampled_from([(5, 7), (1, 9), (9, 1), (3, 4, 5), (2, 3, 3, 3)]))
    numel = int(torch.Size(shape).numel())
    cuts = sorted(data.draw(st.lists(st.integers(0, numel), max_size=4)))
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(numel))
    whole = _sums(Part("x", shape, 0, numel, 0), gradient.flatten())
    parts = [Part("x", shape, first, end - first, 2) for first, end in zip([0, *cuts], [*cuts, numel], strict=True)]
    holders = [
        torch.cat([torch.ones(2), gradient.flatten()[part.offset : part.offset + part.numel], torch.ones(3)]) for part in parts
    ]
    sums = [_sums(part, holder) for part, holder in zip(parts, holders, strict=True)]
    torch.testing.assert_close(torch.stack(sums).sum(0), whole)
    square = gradient.square()
    torch.testing.assert_close(whole, torch.cat([square.sum(-1).flatten(), square.sum(-2).flatten()]))
    factors = {"row_var": square.mean(-1, keepdim=True), "col_var": square.mean(-2, keepdim=True)}
    expected = (factors["row_var"] * factors["col_var"] / factors["row_var"].mean(-2, keepdim=True)).rsqrt()
    torch.testing.assert_close(torch.cat([_inverse_roots(part, factors) for part in parts]), expected.flatten())
