"""Checkpoints: written and read byte by byte, verified before they load, on any number of ranks."""

import errno
import itertools
import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file

from mm1.checkpoint import stream
from mm1.checkpoint.pieces import StatePiece
from mm1.checkpoint.read import load_model, load_state
from mm1.checkpoint.resume import forget, newest_checkpoint, publish_checkpoint, skip_batch, skipped_batches
from mm1.checkpoint.stream import write_safetensors
from mm1.checkpoint.write import put_model, put_rank_state, put_run_state
from mm1.errors import CheckpointError, ConfigurationError, DataError, NetworkError, OutOfMemory
from mm1.manifests import Checkpoint, digest_of_manifest, manifest_key, publish
from mm1.store.base import BlobRef, blob_key, digest_of_file
from mm1.store.local import LocalStore
from tests.support.tiny_mm1 import tiny_mm1


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


def checkpoint(step: int, model=None, trainer=None, world_size: int = 1) -> Checkpoint:
    return Checkpoint(
        stage="pretrain",
        recipe="r",
        config={},
        step=step,
        total_steps=10,
        sequences_seen=step,
        tokens_seen=step,
        images_seen=0,
        world_size=world_size,
        num_parameters=1,
        model=model or {},
        trainer=trainer or {},
    )


def damage(store, ref):
    path = store.root / blob_key(ref)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_models_folder_is_the_same_byte_by_byte_and_loads(store, tmp_path):
    model, processor = tiny_mm1()
    first, second = (put_model(store, model, processor, tmp_path / name) for name in ("a", "b"))
    assert first == second
    loaded, loaded_processor = load_model(store, checkpoint(1, first), tmp_path / "c")
    ids = torch.arange(2, 18).view(1, 16)
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert loaded_processor.encode("<image> a ring") == processor.encode("<image> a ring")
    # What was loaded can be stored again without a difference, so that a resumed run ends with the same digest.
    assert put_model(store, loaded, loaded_processor, tmp_path / "d", first) == first
    with torch.no_grad():
        loaded.lm_head.weight += 1
    changed = put_model(store, loaded, loaded_processor, tmp_path / "e", first)
    assert {name for name, ref in first.items() if changed[name] != ref} == {"model.safetensors"}


def test_a_damaged_model_is_refused(store, tmp_path):
    files = put_model(store, *tiny_mm1(), tmp_path / "a")
    damage(store, files["model.safetensors"])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_model(store, checkpoint(1, files), tmp_path / "b")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_states_come_back_whole_however_they_were_cut(data):
    """Pieces written by some ranks, stretches read by others."""
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4), label="sizes")
    world_size = data.draw(st.integers(1, 3), label="ranks")
    whole = {f"p{number}": torch.randn(size) for number, size in enumerate(sizes)}
    ranks: list[list[StatePiece]] = [[] for _ in range(world_size)]
    for name, tensor in whole.items():
        cuts = sorted({0, len(tensor), *data.draw(st.lists(st.integers(0, len(tensor)), max_size=4), label="cuts")})
        for number, (start, stop) in enumerate(itertools.pairwise(cuts)):
            ranks[number % world_size].append(StatePiece(name, "exp_avg", start, tensor[start:stop].clone()))
    with tempfile.TemporaryDirectory() as folder:
        store, trainer = LocalStore(Path(folder) / "store"), {}
        for rank, pieces in enumerate(ranks):
            numbers = {name: {"step": 7.0} for name in whole}
            trainer |= put_rank_state(store, rank, world_size, pieces, numbers, ["step"], Path(folder) / str(rank))
        trainer |= put_run_state(store, {"progress": {"step": 7}})
        state = load_state(store, checkpoint(7, trainer=trainer, world_size=world_size))
        assert state.run == {"progress": {"step": 7}}
        saved = state.optimizer
        assert (saved.names, saved.scalars, saved.numbers["p0"]) == (set(whole), {"step"}, {"step": 7})
        for name, tensor in whole.items():
            start = data.draw(st.integers(0, len(tensor) - 1), label="from")
            stop = data.draw(st.integers(start + 1, len(tensor)), label="to")
            found = torch.empty(stop - start)
            saved.read_into(found, name, "exp_avg", start)
            assert torch.equal(found, tensor[start:stop])
            with pytest.raises(CheckpointError, match=f"element {len(tensor)} was not saved"):
                saved.read_into(torch.empty(len(tensor) + 1), name, "exp_avg", 0)


def test_the_pointer_names_the_newest_undamaged_checkpoint(store, caplog):
    assert newest_checkpoint(store, "work") is None
    saved = [checkpoint(step, trainer=put_run_state(store, {"step": step})) for step in (1, 2, 3)]
    for item in saved:
        publish_checkpoint(store, "work", item)
    assert newest_checkpoint(store, "work") == saved[2]
    assert len(store.read_json("resume/work.json")["checkpoints"]) == 2
    damage(store, saved[2].trainer["state.json"])
    assert newest_checkpoint(store, "work") == saved[1]
    assert "trying the previous one" in caplog.text
    damage(store, saved[1].trainer["state.json"])
    with pytest.raises(CheckpointError, match="to start from the beginning"):
        newest_checkpoint(store, "work")
    forget(store, "work")
    assert newest_checkpoint(store, "work") is None


def test_only_the_last_checkpoints_keep_their_weights(store, tmp_path):
    saved = []
    for step in range(1, 5):
        piece = StatePiece("p", "exp_avg", 0, torch.full((8,), float(step)))
        state = put_rank_state(store, 0, 1, [piece], {}, [], tmp_path / str(step))
        saved.append(checkpoint(step, trainer={**state, **put_run_state(store, {"step": step})}))
        publish_checkpoint(store, "work", saved[-1], keep=3)
        publish_checkpoint(store, "twin", saved[0], keep=3)  # what another run still names stays
    there = [store.exists(blob_key(item.trainer["rank-00000-of-00001.safetensors"])) for item in saved]
    assert there == [True, True, True, True]
    forget(store, "twin")
    publish_checkpoint(store, "work", saved[0], keep=2)
    there = [store.exists(blob_key(item.trainer["rank-00000-of-00001.safetensors"])) for item in saved]
    assert there == [True, False, False, True]
    assert newest_checkpoint(store, "work") == saved[0]
    assert not list(store.list(".scratch"))


def test_files_of_other_runs_stay(store, tmp_path):
    """Equal weights are one file: a longer run with the same rate passes through a shorter one's finished checkpoint."""

    def state(step: int) -> dict[str, BlobRef]:
        piece = StatePiece("p", "exp_avg", 0, torch.full((8,), float(step)))
        tensors = put_rank_state(store, 0, 1, [piece], {}, [], tmp_path / str(step))
        return {**tensors, **put_run_state(store, {"step": step})}

    shorter = checkpoint(2, trainer=state(2)).model_copy(update={"final": True, "recipe": "shorter"})
    publish_checkpoint(store, "shorter", shorter)
    forget(store, "shorter")
    saved = [checkpoint(step, trainer=state(step)) for step in range(1, 6)]
    continuing = checkpoint(4, trainer=state(4)).model_copy(update={"parents": (digest_of_manifest(saved[2]),)})
    publish(store, continuing)
    for item in saved:
        publish_checkpoint(store, "longer", item, keep=1)
    there = [store.exists(blob_key(item.trainer["rank-00000-of-00001.safetensors"])) for item in saved]
    assert there == [False, True, True, True, True]
    manifests = [store.exists(manifest_key(digest_of_manifest(item))) for item in saved]
    assert manifests == [False, False, True, False, True]
    assert newest_checkpoint(store, "new", start=digest_of_manifest(shorter)) == shorter


def test_batches_to_leave_out_are_remembered(store):
    skip_batch(store, "work", 7)
    publish_checkpoint(store, "work", checkpoint(1, trainer=put_run_state(store, {})))
    skip_batch(store, "work", 3)
    assert skipped_batches(store, "work") == [3, 7]
    assert newest_checkpoint(store, "work").step == 1


def test_publishing_the_same_checkpoint_twice_keeps_the_one_before(store):
    first, second = (checkpoint(step, trainer=put_run_state(store, {"step": step})) for step in (1, 2))
    for item in (first, second, second):
        publish_checkpoint(store, "work", item)
    damage(store, second.trainer["state.json"])
    assert newest_checkpoint(store, "work") == first


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text("abc.", min_size=1, max_size=6),
        st.tuples(
            st.lists(st.integers(0, 5), max_size=3), st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool])
        ),
        max_size=5,
    )
)
def test_files_written_in_one_pass_are_read_by_the_library(shapes):
    tensors = {name: torch.randint(0, 2, shape).to(dtype) for name, (shape, dtype) in shapes.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        assert write_safetensors(path, tensors, {"format": "pt"}) == digest_of_file(path)
        found = load_file(path)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in tensors.items())


def test_tensors_longer_than_a_chunk_are_written_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "CHUNK_BYTES", 100)
    tensors = {str(size): torch.arange(size, dtype=torch.int32) for size in (3, 24, 25, 26, 49, 50, 51, 200)}
    path = tmp_path / "x.safetensors"
    assert write_safetensors(path, tensors) == digest_of_file(path)
    found = load_file(path)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


OTHER_POINTERS = [
    "", "{", "[]", "5", '"x"', "[" * 5000, '{"checkpoints": "abc"}', '{"checkpoints": [5]}', '{"checkpoints": ["../x"]}',
    '{"checkpoints": {}}', '{"skipped": ["x"]}', '{"skipped": [-1]}', '{"skipped": 3}',
]  # fmt: skip


@pytest.mark.parametrize("content", OTHER_POINTERS, ids=lambda content: content[:30])
def test_a_pointer_of_another_shape_is_refused_by_name(store, content):
    store.write("resume/work.json", content.encode())
    for call in (newest_checkpoint, skipped_batches, lambda store, key: skip_batch(store, key, 1)):
        with pytest.raises(ConfigurationError, match=r"resume/work.json is damaged: .*; delete it to start"):
            call(store, "work")
    # another piece of work goes on, and deletes nothing that this pointer may name
    saved = [checkpoint(step, trainer=put_run_state(store, {"step": step})) for step in (1, 2, 3)]
    for item in saved:
        publish_checkpoint(store, "other", item, keep=1)
    assert newest_checkpoint(store, "other") == saved[2]
    assert store.exists(f"manifests/{digest_of_manifest(saved[0])}.json")


def test_a_pointer_keeps_what_it_does_not_know(store):
    store.write_json("resume/work.json", {"checkpoints": [], "skipped": [3], "launches": 2})
    skip_batch(store, "work", 4)
    assert store.read_json("resume/work.json") == {"checkpoints": [], "skipped": [3, 4], "launches": 2}


def test_checkpoints_of_other_work_are_not_taken(store, caplog):
    mine, foreign = checkpoint(1, trainer=put_run_state(store, {})), checkpoint(2, trainer=put_run_state(store, {"x": 1}))

    def difference(item):
        return "" if item.step == 1 else "recipe: expected 'r', got 'other'"

    publish_checkpoint(store, "work", mine)
    publish_checkpoint(store, "work", foreign)
    assert newest_checkpoint(store, "work", difference=difference) == mine
    assert "checkpoint of other work (recipe: expected 'r', got 'other')" in caplog.text
    store.write_json("resume/work.json", {"checkpoints": [digest_of_manifest(foreign)]})
    with pytest.raises(ConfigurationError, match=r"other work .*delete file://.*/resume/work.json"):
        newest_checkpoint(store, "work", difference=difference)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x"), NetworkError),
        (OSError(errno.EIO, "Input/output error"), NetworkError),
        (RuntimeError("CUDA out of memory"), OutOfMemory),
        (NetworkError("store is unreachable"), NetworkError),
        (ConfigurationError("folder of another user"), ConfigurationError),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), ConfigurationError),
        (DataError("blobs/aa does not exist"), CheckpointError),
        (ValueError("not a model"), CheckpointError),
        (SafetensorError("header too large"), CheckpointError),
        (OSError("no file named model.safetensors"), CheckpointError),
    ],
    ids=repr,
)
def test_only_damage_is_a_damaged_checkpoint(store, tmp_path, monkeypatch, error, kind):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(LocalStore, "get_folder", fails)
    with pytest.raises(kind) as caught:
        load_model(store, checkpoint(5), tmp_path / "model")
    assert type(caught.value) is kind
    monkeypatch.setattr(LocalStore, "get_bytes", fails)
    with pytest.raises(kind) as caught:
        load_state(store, checkpoint(5, trainer=put_run_state(store, {})))
    assert type(caught.value) is kind


class Hostile:
    def __reduce__(self):
        return os.system, ("touch PWNED",)


@pytest.mark.parametrize("content", [{"weight": torch.zeros(2)}, {"weight": Hostile()}], ids=["harmless", "hostile"])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.bin", "model.pt"])
def test_pickles_are_not_opened(store, tmp_path, monkeypatch, content, name):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "model"
    files = put_model(store, *tiny_mm1(), folder)
    store.get_folder(files, folder)
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / name)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_model(store, checkpoint(1, store.put_folder(folder)), tmp_path / "loaded")
    assert not (tmp_path / "PWNED").exists()
