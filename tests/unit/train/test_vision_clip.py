"""The contrastive loss of a vision tower: pairs of a batch, the loss of the global batch, its gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from mm1.data.load.collate import PixelNorm
from mm1.train.batch_plan import plan_batch
from mm1.train.config import ClipConfig, OptimConfig, TrainConfig
from mm1.train.engine import Engine
from mm1.train.inputs import ModelInputs
from mm1.train.vision.clip import ClipModel
from mm1.train.vision.contrast import Pool, contrast, pair_losses
from mm1.train.vision.inputs import ClipInputs
from mm1.train.vision.objectives import ClipObjective
from mm1.train.vision.pairs import caption_pairs
from tests.support.tiny_model import packed_batch, tiny_model

END, IMAGE = 0, 1
ROWS = [[9, 12, 4], [20], [3, 3], [6, 7, 8]]
"""Documents of each row; those with more than 4 tokens begin with an image of 4 tokens, so rows have 2, 1, 0 and 3 pairs."""
CLIP = ClipConfig(embedding_size=16, text_hidden_size=16, text_layers=1, text_heads=2, text_length=12)


def batch_of(rows: list[list[int]], seed: int = 0) -> dict[str, torch.Tensor]:
    batch = packed_batch(rows, seed=seed) | {"source_ids": torch.zeros(len(rows), dtype=torch.long)}
    if "pixel_values" in batch:
        pixels = torch.randint(0, 256, (len(batch["pixel_values"]), 16, 16, 3), generator=torch.Generator().manual_seed(seed))
        batch["pixel_values"] = pixels.to(torch.uint8)
    return batch


def pool_of(number: int, places: int, seed: int = 0) -> Pool:
    generator = torch.Generator().manual_seed(seed)
    images, texts = (F.normalize(torch.randn(places, 8, generator=generator), dim=-1) for _ in range(2))
    return Pool(images, texts, torch.arange(places), torch.arange(places) < number, torch.tensor(2.0))


@pytest.mark.parametrize("places", [5, 9])
def test_the_loss_and_its_gradients_are_those_of_the_definition(places):
    pool = pool_of(5, places)
    result = contrast(pool)
    image, text, scale = (
        value.double().requires_grad_() for value in (pool.images[:5].clone(), pool.texts[:5].clone(), pool.log_scale)
    )
    logits = scale.exp() * image @ text.T
    expected = (F.cross_entropy(logits, torch.arange(5)) + F.cross_entropy(logits.T, torch.arange(5))) / 2
    expected.backward()
    assert result.losses.sum().item() / 5 == pytest.approx(expected.item(), rel=1e-5)
    for own, value in ((result.image_gradient, image), (result.text_gradient, text)):
        torch.testing.assert_close(own[:5], value.grad.float(), rtol=1e-4, atol=1e-6)
        assert own[5:].abs().sum() == result.losses[5:].abs().sum() == 0
    torch.testing.assert_close(result.scale_gradient, scale.grad.float(), rtol=1e-4, atol=1e-6)


def test_an_equal_caption_of_another_image_is_a_hit():
    pool = pool_of(6, 6)
    pool = pool._replace(images=pool.texts[[1, 1, 2, 4, 4, 0]], hashes=torch.tensor([7, 7, 1, 2, 3, 4]))
    assert pair_losses(pool)[1].tolist() == [True, True, True, False, True, False]


def test_without_pairs_the_loss_is_zero_and_finite():
    result = contrast(pool_of(0, 4))
    assert all(torch.isfinite(value.float()).all() and not value.any() for value in result)


def test_pairs_are_the_documents_with_one_image_and_text():
    image, caption = [IMAGE] * 4, [10, 11, 12]
    documents = [[*image, *caption, END], [*image, *image, 20, END], [30, 31, END], [*image, END], [40, *image, 41, END]]
    batch = {
        "input_ids": torch.tensor([[token for document in documents for token in document] + [END] * 2]),
        "document_ids": torch.tensor([[number for number, of in enumerate(documents, 1) for _ in of] + [0] * 2]).int(),
        "pixel_values": torch.zeros(5, 16, 16, 3, dtype=torch.uint8),
    }
    batch = {name: torch.cat([value, value]) for name, value in batch.items()}
    pairs = caption_pairs(batch, image_id=IMAGE, end_id=END, text_length=4)
    assert pairs.images.tolist() == [0, 4, 5, 9]
    assert pairs.text_ids.tolist() == [[*caption, END], [40, 41, END, END]] * 2
    assert pairs.rows.tolist() == [0, 0, 1, 1]
    assert pairs.texts[0] == pairs.texts[2] != pairs.texts[1]
    cut = caption_pairs(batch, image_id=IMAGE, end_id=END, text_length=3)
    assert cut.text_ids.tolist() == [[10, 11, END], [40, 41, END]] * 2


def test_a_batch_without_pairs_has_none():
    for rows in ([[3, 3]], [[0]]):
        batch = batch_of([[*row, 1] for row in rows])
        pairs = caption_pairs(batch, image_id=IMAGE, end_id=END, text_length=4)
        assert [len(value) for value in pairs] == [0] * 4


def model() -> ClipModel:
    whole = tiny_model().train()
    torch.manual_seed(1)
    return ClipModel(whole, CLIP, vocab_size=64, end_id=END).train()


def learnt(size: int) -> tuple[float, float, dict[str, torch.Tensor]]:
    """Mean loss, hits and gradients of a step with micro-batches of a size."""
    made, plan = model(), plan_batch(len(ROWS), size, world_size=1)
    train = TrainConfig(steps=1, global_batch=len(ROWS), micro_batch=size, checkpoint_every=1)
    engine = Engine(made, peak_lr=1e-3, optim=OptimConfig(clip=0.0), train=train, batch_plan=plan)
    blank = torch.zeros(1, 3, 16, 16)
    inputs = ModelInputs(engine.device, PixelNorm([0.5] * 3, [0.25] * 3), blank)
    objective = ClipObjective(engine, ClipInputs(inputs, IMAGE, END, CLIP.text_length), capacity=6 * size)
    whole = batch_of(ROWS)
    images = [2, 1, 0, 3]
    batches = []
    for start in range(0, len(ROWS), size):
        part = {name: value[start : start + size] for name, value in whole.items() if name != "pixel_values"}
        first = sum(images[:start])
        if number := sum(images[start : start + size]):
            part["pixel_values"] = whole["pixel_values"][first : first + number]
        batches.append(part)
    totals, loss, hits, pairs = objective.totals(batches), 0.0, 0.0, 0.0
    for number, batch in enumerate(batches):
        if number:
            engine.finish_micro_batch()
        output = objective(objective.inputs(batch)[0], totals)
        engine.backward(output.loss)
        loss, hits = loss + output.sequence_loss.sum().item(), hits + output.hits.item()
        pairs += output.sequence_tokens.sum().item()
    with engine.evaluating():
        held_out = objective.held_out(batches)
    assert (held_out.loss.item(), held_out.number.item(), held_out.hits.item()) == (pytest.approx(loss, rel=1e-5), pairs, hits)
    return loss / pairs, hits, {name: value.grad.clone() for name, value in made.named_parameters()}


@pytest.mark.parametrize("size", [4, 2, 1])
def test_micro_batches_train_as_the_global_batch(alone, size):
    """Against plain autograd through all pairs at once; one micro-batch of size 1 has no pair."""
    made, whole = model(), batch_of(ROWS)
    pairs = caption_pairs(whole, image_id=IMAGE, end_id=END, text_length=CLIP.text_length)
    pixels = PixelNorm([0.5] * 3, [0.25] * 3)(whole["pixel_values"][pairs.images])
    image, text, scale = made(pixels, pairs.text_ids)
    logits, own = scale.exp() * image @ text.T, torch.arange(6)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    expected.backward()
    loss, hits, gradients = learnt(size)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert hits == (logits.argmax(dim=1) == own).sum().item()
    for name, parameter in made.named_parameters():
        torch.testing.assert_close(
            gradients[name], parameter.grad, rtol=1e-3, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
        assert parameter.grad.abs().sum() > 0, name


def test_the_temperature_does_not_fall_below_a_hundredth():
    made = model()
    with torch.no_grad():
        made.log_scale.fill_(9.0)
    *_, scale = made(torch.zeros(1, 3, 16, 16), torch.full((1, 2), END))
    scale.backward()
    assert scale.exp().item() == pytest.approx(100) and made.log_scale.grad.item() == 1.0


@pytest.mark.parametrize("end_id", [0, 2, 63])
def test_a_caption_is_what_stands_before_its_first_end(end_id):
    whole = tiny_model().train()
    made = ClipModel(whole, CLIP, vocab_size=64, end_id=end_id).eval()

    def text_of(*tokens: int) -> torch.Tensor:
        with torch.no_grad():
            return made(torch.zeros(1, 3, 16, 16), torch.tensor([tokens]))[1]

    short = text_of(40, 41, end_id)
    torch.testing.assert_close(text_of(40, 41, end_id, end_id, 50), short)
    assert not torch.allclose(text_of(40, 42, end_id), short) and not torch.allclose(text_of(41, 40, end_id), short)
