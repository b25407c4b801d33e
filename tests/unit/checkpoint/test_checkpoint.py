import pytest
import torch

from mm1.checkpoint.read import load_model, load_state
from mm1.checkpoint.resume import forget, newest_checkpoint, publish_checkpoint
from mm1.checkpoint.write import put_model, put_rank_state, put_run_state
from mm1.errors import CheckpointError
from mm1.manifests import Checkpoint
from mm1.store.base import blob_key
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


def test_states_come_back_as_they_were(store, tmp_path):
    flat = torch.arange(12.0)
    tensors = {"0.0.master": flat[:4], "0.0.exp_avg": flat[4:], "0.1.step": torch.tensor(3.0)}
    trainer = {}
    for rank in range(2):
        mine = {name: tensor + rank for name, tensor in tensors.items()}
        trainer |= put_rank_state(store, rank, 2, mine, {"numbers": {"0.0.step": rank}}, tmp_path / f"r{rank}")
    trainer |= put_run_state(store, {"progress": {"step": 5}})
    saved = checkpoint(5, trainer=trainer, world_size=2)
    state = load_state(store, saved, tmp_path / "back", 1, 2)
    assert set(state.tensors) == set(tensors)
    assert all(torch.equal(state.tensors[name], tensor + 1) for name, tensor in tensors.items())
    assert (state.description, state.run) == ({"numbers": {"0.0.step": 1}}, {"progress": {"step": 5}})
    with pytest.raises(CheckpointError, match="saved by 2 processes, and there are 1"):
        load_state(store, saved, tmp_path / "other", 0, 1)


def test_the_pointer_names_the_newest_undamaged_checkpoint(store, caplog):
    assert newest_checkpoint(store, "work") is None
    saved = [checkpoint(step, trainer=put_run_state(store, {"step": step})) for step in (1, 2, 3)]
    for item in saved:
        publish_checkpoint(store, "work", item)
    assert newest_checkpoint(store, "work") == saved[2]
    assert len(store.read_json("resume/work.json")["checkpoints"]) == 2
    damage(store, saved[2].trainer["state.json"])
    assert newest_checkpoint(store, "work") == saved[1]
    assert "trying the one before" in caplog.text
    damage(store, saved[1].trainer["state.json"])
    with pytest.raises(CheckpointError, match="to start from the beginning"):
        newest_checkpoint(store, "work")
    forget(store, "work")
    assert newest_checkpoint(store, "work") is None


def test_publishing_the_same_checkpoint_twice_keeps_the_one_before(store):
    first, second = (checkpoint(step, trainer=put_run_state(store, {"step": step})) for step in (1, 2))
    for item in (first, second, second):
        publish_checkpoint(store, "work", item)
    damage(store, second.trainer["state.json"])
    assert newest_checkpoint(store, "work") == first
