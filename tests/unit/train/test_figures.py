"""Figures of a step: what they count, and that counting waits for no device."""

from types import SimpleNamespace

import torch
from hypothesis import given
from hypothesis import strategies as st

from mm1.train.figures import Figures, expert_loads, seen_pairs

ROWS, COLUMNS, EXPERTS, LAYERS = 2, 7, 4, 3


def figures_of(device, scale=1.0):
    """Figures of an invented micro-batch: 2 sequences of sources 1 and 0, 3 images, 3 sparse layers."""
    document_ids = torch.tensor([[1, 1, 1, 2, 2, 0, 0], [1, 2, 3, 3, 3, 3, 0]], device=device)
    output = SimpleNamespace(
        sequence_loss=torch.tensor([1.5, 0.25], device=device) * scale,
        sequence_tokens=torch.tensor([4, 3], device=device),
        balance_loss=torch.tensor(1.125, device=device),
        z_loss=torch.tensor(0.5, device=device),
        router_logits=tuple(
            torch.arange(ROWS * COLUMNS * EXPERTS, device=device).view(-1, EXPERTS).sin() for _ in range(LAYERS)
        ),
    )
    batch = {"document_ids": document_ids, "pixel_values": torch.zeros(3, 3, 4, 4, device=device)}
    return Figures.of(batch, torch.tensor([1, 0], device=device), output, num_sources=2, experts_per_token=2)


def test_no_figure_waits_for_a_device():
    # A meta tensor has no numbers, so that whatever would fetch one from a GPU fails.
    figures = figures_of("meta").plus(figures_of("meta"))
    assert figures.with_values(figures.flat()).loads.shape == (LAYERS, EXPERTS)


def test_figures_of_a_micro_batch():
    figures = figures_of("cpu")
    assert figures.losses.tolist() == [0.25, 1.5]
    assert figures.predicted.tolist() == [3, 4]
    assert (figures.tokens, figures.positions, figures.images) == (5 + 6, 14, 3)
    assert figures.pairs == (6 + 3) + (1 + 1 + 10)
    assert figures.loads.sum(dim=1).tolist() == [11 * 2] * LAYERS
    assert {tensor.dtype for tensor in figures} == {torch.float64}


def test_figures_travel_as_one_vector():
    figures = figures_of("cpu").plus(figures_of("cpu", scale=3.0))
    assert figures.loss_sum == 4 * 1.75
    again = figures.with_values(2 * figures.flat())
    for one, two in zip(figures, again, strict=True):
        assert torch.equal(2 * one, two)


def test_a_dense_model_has_no_loads():
    output = SimpleNamespace(sequence_loss=torch.ones(1), sequence_tokens=torch.ones(1), router_logits=None)
    figures = Figures.of({"document_ids": torch.ones(1, 3, dtype=torch.int32)}, torch.tensor([0]), output, 1, 0)
    assert figures.loads.numel() == figures.images == 0


@given(st.lists(st.lists(st.integers(0, 4), min_size=6, max_size=6).map(sorted), min_size=1, max_size=3))
def test_pairs_are_those_of_each_document(rows):
    expected = sum(row.count(number) * (row.count(number) + 1) // 2 for row in rows for number in {1, 2, 3, 4})
    assert seen_pairs(torch.tensor(rows, dtype=torch.int32)) == expected


@given(st.integers(0, 10_000), st.integers(1, 3))
def test_loads_are_the_choices_of_tokens_that_are_no_padding(seed, chosen):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(8, EXPERTS, generator=generator)
    kept = torch.rand(2, 4, generator=generator) < 0.7
    (loads,) = expert_loads([logits], kept, chosen).tolist()
    choices = [
        expert
        for scores in logits[kept.flatten()].tolist()
        for expert in sorted(range(EXPERTS), key=lambda e: -scores[e])[:chosen]
    ]
    assert loads == [choices.count(expert) for expert in range(EXPERTS)]
