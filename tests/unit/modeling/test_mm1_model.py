"""Images in the place of image tokens, the loss, saving and loading."""

import pytest
import torch
from torch.nn import functional as F

from mm1.modeling.modeling import MM1ForConditionalGeneration
from tests.support.tiny_model import packed_batch, tiny_config, tiny_model

ROWS = [[11, 9, 12], [20, 5, 3]]


def test_features_stand_in_the_place_of_image_tokens_in_order():
    model, batch = tiny_model(), packed_batch(ROWS)
    embeds, features = model.model.embed(batch["input_ids"], batch["pixel_values"])
    is_image = batch["input_ids"] == 1
    assert torch.equal(embeds[is_image], features.flatten(0, 1))
    assert torch.equal(embeds[~is_image], model.get_input_embeddings()(batch["input_ids"])[~is_image])
    assert torch.equal(features, model.get_image_features(batch["pixel_values"]))


def test_features_encoded_before_are_as_good_as_pixels():
    model, batch = tiny_model(), packed_batch(ROWS)
    pixels = batch.pop("pixel_values")
    expected = model(**batch, pixel_values=pixels).loss
    assert torch.equal(model(**batch, image_features=model.get_image_features(pixels)).loss, expected)
    assert torch.equal(model(**{**batch, "pixel_values": pixels.flip(0)}).loss, expected) is False


def test_numbers_of_image_tokens_and_features_must_agree():
    model, batch = tiny_model(), packed_batch(ROWS)
    with pytest.raises(ValueError, match=r"20 image tokens but 12 image features \(3 images of 4 tokens\)"):
        model(**{**batch, "pixel_values": batch["pixel_values"][:3]})
    del batch["pixel_values"]
    with pytest.raises(ValueError, match="20 image tokens but 0 image features"):
        model(**batch)


def test_inputs_are_ids_or_embeddings():
    model, batch = tiny_model(), packed_batch(ROWS)
    embeds, _ = model.model.embed(batch["input_ids"], batch["pixel_values"])
    rest = {name: batch[name] for name in ("labels", "position_ids", "document_ids")}
    torch.testing.assert_close(model(inputs_embeds=embeds, **rest).loss, model(**batch).loss)
    with pytest.raises(ValueError, match="exactly one"):
        model(inputs_embeds=embeds, **batch)
    with pytest.raises(ValueError, match="exactly one"):
        model(**rest)
    with pytest.raises(ValueError, match="Images need input_ids"):
        model(inputs_embeds=embeds, pixel_values=batch["pixel_values"], **rest)


def test_the_loss_is_the_mean_over_labelled_positions_inside_documents():
    model, batch = tiny_model(), packed_batch(ROWS)
    output = model(**batch, return_logits=True)
    losses, per_row = [], []
    for row, lengths in enumerate(ROWS):
        start, row_losses = 0, []
        for length in lengths:
            for position in range(start, start + length - 1):
                label = batch["labels"][row, position + 1]
                if label != -100:
                    row_losses.append(F.cross_entropy(output.logits[row, position], label))
            start += length
        losses += row_losses
        per_row.append(torch.stack(row_losses).sum())
    torch.testing.assert_close(output.loss, torch.stack(losses).mean())
    torch.testing.assert_close(output.sequence_loss, torch.stack(per_row).detach())
    assert output.sequence_tokens.sum() == len(losses)
    assert not output.sequence_loss.requires_grad


def test_without_documents_the_loss_is_that_of_transformers():
    model, batch = tiny_model(), packed_batch([[20], [20]])
    plain = {name: batch[name] for name in ("input_ids", "labels", "pixel_values")}
    output = model(**plain, return_logits=True)
    torch.testing.assert_close(output.loss, model.loss_function(output.logits, batch["labels"], vocab_size=64))


def test_a_normaliser_replaces_the_number_of_predicted_tokens():
    model, batch = tiny_model(), packed_batch(ROWS)
    output = model(**batch)
    halved = model(**batch, num_items_in_batch=2 * output.sequence_tokens.sum())
    torch.testing.assert_close(halved.loss * 2, output.loss)


def test_a_batch_without_labels_has_loss_zero_and_gradients_zero():
    model, batch = tiny_model().train(), packed_batch(ROWS)
    loss = model(**{**batch, "labels": torch.full_like(batch["labels"], -100)}).loss
    loss.backward()
    assert loss.item() == 0
    assert all(weight.grad is not None and not weight.grad.any() for weight in model.parameters())


def test_logits_come_when_they_are_asked_for():
    model, batch = tiny_model(), packed_batch(ROWS)
    labels = batch.pop("labels")
    assert model(**batch).logits.shape == (2, 32, 64)
    assert model(**batch, logits_to_keep=1).logits.shape == (2, 1, 64)
    assert model(**batch, labels=labels).logits is None
    assert isinstance(model(**batch, labels=labels, return_dict=False), tuple)


@pytest.mark.parametrize("connector_type", ["average_pool", "attention_pool", "c_abstractor"])
@pytest.mark.parametrize("vision", ["clip", "siglip"])
def test_every_weight_gets_a_gradient(connector_type, vision):
    model = tiny_model(connector_type, vision=vision).train()
    model(**packed_batch(ROWS)).loss.backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


@pytest.mark.parametrize("pixels", [0.0, torch.inf])
def test_unused_images_change_nothing_and_give_gradients_of_zero(pixels):
    """Ranks with and without images reduce the same gradients; not even features that are not finite reach the loss."""
    model, batch = tiny_model().train(), packed_batch(ROWS, images=False)
    expected = model(**batch).loss
    expected.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    loss = model(**batch, unused_pixel_values=torch.full((1, 3, 24, 24), pixels)).loss
    assert torch.equal(loss, expected)
    loss.backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        if name in gradients:
            assert torch.equal(weight.grad, gradients[name]), name
        elif pixels == 0:
            assert not weight.grad.any(), name


def test_other_resolutions_interpolate_the_positions():
    model = tiny_model()
    small = torch.randn(2, 3, 16, 16)
    assert model.get_image_features(small).shape == (2, 4, 32)
    assert model.get_image_features(torch.randn(2, 3, 24, 40)).shape == (2, 4, 32)
    with pytest.raises(ValueError, match=r"18 x 16.*patches of 4 x 4"):
        model.get_image_features(torch.randn(2, 3, 18, 16))


def test_the_tower_gives_its_last_layer_without_the_class_token():
    model = tiny_model("average_pool", image_tokens=16)
    pixels = torch.randn(1, 3, 16, 16)
    hidden = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
    assert hidden.shape[1] == 17
    expected = model.model.connector.projection(hidden[:, 1:])
    torch.testing.assert_close(model.get_image_features(pixels), expected)


@pytest.mark.parametrize("vision", ["clip", "siglip"])
@pytest.mark.parametrize("moe", [False, True])
def test_saved_and_loaded_is_the_same_model(tmp_path, vision, moe):
    model, batch = tiny_model(vision=vision, moe=moe), packed_batch(ROWS)
    model.save_pretrained(tmp_path)
    loaded = MM1ForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(loaded(**batch).loss, model(**batch).loss)
    assert loaded.model.language_model.config._attn_implementation == "mm1_packed"
    again = tmp_path / "again"
    loaded.save_pretrained(again)
    for file in again.iterdir():
        assert file.read_bytes() == (tmp_path / file.name).read_bytes(), file.name


def test_tied_embeddings_stay_tied(tmp_path):
    model = tiny_model(text={"tie_word_embeddings": True})
    assert model.lm_head.weight is model.get_input_embeddings().weight
    model.save_pretrained(tmp_path)
    loaded = MM1ForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight


def test_an_answer_holds_no_image_token():
    model, ids = tiny_model(), torch.full((1, 3), 9)
    with torch.no_grad():
        last = model.model(input_ids=ids).last_hidden_state[0, -1]
        model.lm_head.weight[1] = 100 * last  # the image token is by far the most likely next
    assert model(input_ids=ids).logits[0, -1].argmax() == 1
    assert 1 not in model.generate(ids, max_new_tokens=3, do_sample=False, pad_token_id=0)


def test_the_decoder_may_have_any_experts_field_or_none():
    assert tiny_config().is_moe is False
    config = tiny_config(moe=True)
    assert (config.num_experts, config.num_experts_per_tok, config.norm_topk_prob) == (4, 2, True)
    assert not hasattr(tiny_config(), "num_experts")
