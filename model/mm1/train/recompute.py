"""Gradient checkpointing: blocks save only their input, and their activations are recomputed in the backward pass."""

from __future__ import annotations

from transformers import PreTrainedModel


def recompute_activations(model: PreTrainedModel) -> None:
    """Enable gradient checkpointing.

    transformers then makes the outputs of all embeddings require gradients, which only reentrant checkpointing needs. A frozen
    tower would have a backward pass without use, so this is undone.

    Args:
        model: changed in place, with its submodules.
    """
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.disable_input_require_grads()
