"""The loader against a mixture in a real store: the batch contract, resume, world sizes, damage."""

import io
import logging
import os
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from mm1.data.config import LoaderLimits
from mm1.data.load.collate import PixelNorm
from mm1.data.load.loader import MixtureLoader
from mm1.data.load.open_mix import open_mix
from mm1.data.sample import TextPart
from mm1.errors import ConfigurationError, DataError
from mm1.modeling.losses import next_token_targets
from mm1.store.base import blob_key
from mm1.store.local import LocalStore
from tests.support.mixtures import build_mix, make_samples

WEIGHTS = {"captions": 0.45, "interleaved": 0.45, "text": 0.1}


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    store = LocalStore(folder / "store")
    return store, *build_mix(store, folder, weights=WEIGHTS)


def loader(mixture, **settings):
    store, raw, mix = mixture
    defaults = {"micro_batch": 2, "global_batch": 4, "rank": 0, "world_size": 1}
    return MixtureLoader(store, mix, raw, **(defaults | settings))


def take(source, number):
    iterator = iter(source)
    batches = list(islice(iterator, number))
    iterator.close()
    return batches


def same(left, right):
    assert left.keys() == right.keys()
    return all(torch.equal(left[name], right[name]) for name in left)


def joined(batches):
    pixels = [batch["pixel_values"] for batch in batches if "pixel_values" in batch]
    names = [name for name in batches[0] if name != "pixel_values"]
    return {name: torch.cat([batch[name] for batch in batches]) for name in names} | {"pixel_values": torch.cat(pixels)}


def test_attention_across_documents_keeps_the_tokens_with_loss(mixture):
    store, raw, mix = mixture
    isolated = joined(take(loader(mixture), 8))
    shared = joined(take(loader((store, raw, mix.model_copy(update={"cross_document_attention": True}))), 8))
    kept = isolated["document_ids"] != 0
    assert torch.equal(shared["document_ids"], kept.int())
    assert torch.equal(shared["position_ids"][kept], torch.arange(kept.shape[1]).expand(kept.shape)[kept])
    assert torch.equal(shared["input_ids"], isolated["input_ids"])
    targets = [next_token_targets(batch["labels"], batch["document_ids"]) for batch in (isolated, shared)]
    assert torch.equal(*targets)


def test_batch_keeps_the_contract(mixture):
    store, raw, mix = mixture
    tokenizer = open_mix(store, mix, raw).tokenizer
    for batch in take(loader(mixture), 12):
        ids, labels, positions, documents = (batch[name] for name in ("input_ids", "labels", "position_ids", "document_ids"))
        assert ids.shape == labels.shape == positions.shape == documents.shape == (2, mix.sequence_length)
        assert ids.dtype == labels.dtype == batch["source_ids"].dtype == torch.int64
        assert documents.dtype == torch.int32
        padding = documents == 0
        assert (labels[padding] == -100).all()
        assert (labels[ids == tokenizer.image_id] == -100).all()
        counted = labels != -100
        assert torch.equal(labels[counted], ids[counted])
        assert counted[~padding & (ids != tokenizer.image_id)].all()
        num_images = int((ids == tokenizer.image_id).sum()) // mix.image_tokens
        assert ("pixel_values" in batch) == (num_images > 0)
        if num_images:
            assert batch["pixel_values"].shape == (num_images, 16, 16, 3)
            assert batch["pixel_values"].dtype == torch.uint8
        for row in range(2):
            inside = documents[row][~padding[row]]
            assert inside[0] == 1
            assert set(torch.diff(inside).tolist()) <= {0, 1}
            starts = torch.diff(documents[row], prepend=torch.tensor([0], dtype=torch.int32)) == 1
            assert torch.equal(positions[row] == 0, starts | padding[row])


def test_images_stand_where_their_samples_have_them(mixture):
    store, raw, mix = mixture
    opened = open_mix(store, mix, raw)
    batch = take(loader(mixture, global_batch=2), 1)[0]
    expected = []
    for number in range(2):
        source, spans = opened.plan[number]
        for span in spans:
            sample = opened.read(source, span.shard, span.row)
            expected += sample.images[: span.num_images]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in expected])
    np.testing.assert_array_equal(batch["pixel_values"].numpy(), pixels)
    values = PixelNorm([0.5, 0.25, 0.5], [0.5, 0.5, 0.25])(batch["pixel_values"])
    assert values.is_contiguous()
    expected = (pixels / 255 - np.array([0.5, 0.25, 0.5])) / np.array([0.5, 0.5, 0.25])
    np.testing.assert_allclose(values.permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("cut", [0, 1, 3, 5])
@pytest.mark.parametrize(("world_size", "micro_batch"), [(1, 1), (2, 2), (4, 1)])
def test_resume_at_any_cut_on_any_world_size(mixture, cut, world_size, micro_batch):
    plain = joined(take(loader(mixture, micro_batch=4), 8))
    first = loader(mixture, micro_batch=4)
    before = take(first, cut)
    state = first.state_dict()
    assert state["sequence"] == 4 * cut
    ranks = [
        loader(
            mixture,
            micro_batch=micro_batch,
            rank=rank,
            world_size=world_size,
            start_sequence=state["sequence"],
            cursors=state["cursors"],
        )
        for rank in range(world_size)
    ]
    per_global = 4 // world_size // micro_batch
    streams = [take(rank, (8 - cut) * per_global) for rank in ranks]
    after = []
    for step in range(8 - cut):
        for stream in streams:
            after += stream[step * per_global : (step + 1) * per_global]
    assert same(plain, joined(before + after))


def test_state_in_the_middle_of_a_global_batch_goes_back_to_its_start(mixture):
    source = loader(mixture, micro_batch=1, global_batch=4)
    assert take(source, 6) and source.state_dict()["sequence"] == 4
    again = take(source, 4)
    assert same(joined(again), joined(take(loader(mixture, micro_batch=1, start_sequence=4), 4)))


def test_worker_processes_give_the_same_batches(mixture):
    assert all(map(same, take(loader(mixture), 6), take(loader(mixture, num_workers=2), 6)))


def test_memory_of_decoded_samples_changes_nothing(mixture):
    bare = loader(mixture, limits=LoaderLimits(cache_bytes=0))
    kept = loader(mixture)
    assert all(map(same, take(bare, 60), take(kept, 60)))
    assert kept.num_read < bare.num_read


def test_sizes_that_do_not_divide_are_refused(mixture):
    with pytest.raises(ConfigurationError, match="global_batch: 4"):
        loader(mixture, micro_batch=3)
    with pytest.raises(ConfigurationError, match="multiple of global_batch"):
        loader(mixture, start_sequence=3)


def damaged_mixture(folder, number_damaged):
    """A mixture in which the first captions have a broken image."""
    samples = {"captions": make_samples("captions", 60)}
    for sample in samples["captions"][:number_damaged]:
        sample.images[0] = sample.images[0][:100]
    store = LocalStore(folder / "store")
    return store, *build_mix(store, folder, weights={"captions": 1.0}, samples=samples)


def test_damaged_sample_is_left_out_and_named(tmp_path, caplog):
    source = loader(damaged_mixture(tmp_path, 1), limits=LoaderLimits(max_damaged_share=0.05))
    with caplog.at_level(logging.WARNING):
        batches = take(source, 40)
    assert source.num_damaged == 1
    assert "captions-000000000" in caplog.text and "unreadable image" in caplog.text
    assert all((batch["document_ids"] > 0).any() for batch in batches)


def test_too_many_damaged_samples_end_the_run(tmp_path):
    source = loader(damaged_mixture(tmp_path, 20), limits=LoaderLimits(min_read_samples=50))
    with pytest.raises(DataError, match=r"of \d+ samples are damaged.*unreadable image"):
        take(source, 40)


def test_truncated_shard_is_survived_or_named(tmp_path):
    samples = {"captions": make_samples("captions", 60)}
    store = LocalStore(tmp_path / "store")
    raw, mix = build_mix(store, tmp_path, weights={"captions": 1.0}, samples=samples, per_shard=20)
    tar = raw.sources["captions"].shards[1].tar
    os.truncate(tmp_path / "store" / blob_key(tar), tar.num_bytes // 2)
    tolerant = loader((store, raw, mix), limits=LoaderLimits(max_damaged_share=0.5))
    assert take(tolerant, 20) and 5 < tolerant.num_damaged < 15
    with pytest.raises(DataError, match="captions-00001"):
        take(loader((store, raw, mix), limits=LoaderLimits(min_read_samples=30)), 20)


def test_text_with_the_image_token_is_damage(tmp_path, caplog):
    samples = make_samples("text", 4)
    samples[0] = replace(samples[0], parts=[TextPart("look <image> here")])
    store = LocalStore(tmp_path / "store")
    source = loader((store, *build_mix(store, tmp_path, weights={"text": 1.0}, samples={"text": samples})))
    assert take(source, 8) and source.num_damaged == 1
    assert "text-000000000" in caplog.text and "image token" in caplog.text


def test_no_more_tars_are_open_than_allowed(mixture, monkeypatch):
    monkeypatch.setattr("mm1.data.load.open_mix.MAX_OPEN_TARS", 2)
    few = loader(mixture, limits=LoaderLimits(cache_bytes=0))
    assert all(map(same, take(few, 10), take(loader(mixture), 10)))
    readers = [reader for readers in few._opened.readers.values() for reader in readers]
    assert len(readers) > 4 and 1 <= sum("_file" in vars(reader._tar) for reader in readers) <= 2
