"""Gradient checkpointing with frozen parts."""

import torch

from mm1.train.optim import freeze
from mm1.train.recompute import recompute_activations
from tests.support.tiny_model import packed_batch, tiny_model


def test_a_frozen_tower_has_no_backward_pass():
    batch = packed_batch([[20, 9, 11], [40]])
    model = tiny_model().train()
    freeze(model, ("vision", "connector"))
    recompute_activations(model)
    assert not model.get_image_features(batch["pixel_values"]).requires_grad
    model(**batch).loss.backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in model.parameters())


def test_gradients_of_what_is_trained_stay():
    batch, gradients = packed_batch([[20, 9, 11], [40]]), []
    for recompute in (False, True):
        model = tiny_model().train()
        freeze(model, ("vision", "embed_tokens"))
        if recompute:
            recompute_activations(model)
        model(**batch).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.requires_grad])
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, recomputed)
