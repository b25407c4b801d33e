"""Folders that are not a whole MM1 are refused, with the names of what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mm1.checkpoint.folder import load_folder
from mm1.checkpoint.open import open_model
from mm1.errors import CheckpointError, ConfigurationError, Mm1Error
from mm1.lineage.signing import Signatures, sign
from mm1.manifests import Checkpoint, ExportedModel, publish
from mm1.modeling.export import export
from mm1.store.open import open_store
from tests.support.signing_keys import key_pair
from tests.support.tiny_mm1 import tiny_mm1
from tests.support.tiny_model import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(*tiny_mm1(), tmp_path_factory.mktemp("whole") / "model", max_shard_size="40KB")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """Change the tensors of the shard that has the connector."""

    def make(folder: Path) -> None:
        (path,) = (path for path in folder.glob("*.safetensors") if "model.connector.projection.bias" in load_file(path))
        content = load_file(path)
        change(content)
        save_file(content, path, metadata={"format": "pt"})

    return make


def fields(name: str = "config.json", **values: Any) -> Callable[[Path], None]:
    """Change fields of a JSON file; a name with a dot is that of a part's field."""

    def make(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        for key, value in values.items():
            part, _, field = key.rpartition("__")
            (content[part] if part else content)[field] = value
        (folder / name).write_text(json.dumps(content))

    return make


def shard(folder: Path, number: int = 0) -> Path:
    return sorted(folder.glob("*.safetensors"))[number]


def pickled(folder: Path) -> None:
    for path in folder.glob("model*"):
        path.unlink()
    torch.save({}, folder / "pytorch_model.bin")


def renamed(content: dict[str, torch.Tensor]) -> None:
    content["model.connector.extra"] = content.pop("model.connector.projection.bias")


BROKEN: dict[str, tuple[Callable[[Path], object], type[Mm1Error], str]] = {
    "another type": (fields(model_type="llava"), ConfigurationError, "model_type in config.json is 'llava', expected 'mm1'"),
    "no type": (fields(model_type=None), ConfigurationError, "model_type in config.json is None"),
    "another class": (fields(architectures=["Other"]), ConfigurationError, r"architectures in config.json is \['Other'\]"),
    "no configuration": (lambda f: (f / "config.json").unlink(), ConfigurationError, "it has no config.json"),
    "a broken configuration": (lambda f: (f / "config.json").write_text("{"), CheckpointError, "config.json cannot be read"),
    "a list as configuration": (lambda f: (f / "config.json").write_text("[]"), CheckpointError, "not a JSON object"),
    "a missing tensor": (
        tensors(lambda content: content.pop("model.connector.projection.bias")),
        CheckpointError,
        r"1 missing \(model.connector.projection.bias\)",
    ),
    "a renamed tensor": (tensors(renamed), CheckpointError, r"1 missing .*1 unexpected \(model.connector.extra\)"),
    "another shape": (
        tensors(lambda content: content.update({"model.connector.projection.bias": torch.zeros(33)})),
        CheckpointError,
        r"1 of another shape \(model.connector.projection.bias \[33\] instead of \[32\]\)",
    ),
    "more layers": (
        fields(text_config__num_hidden_layers=3, text_config__layer_types=None),
        CheckpointError,
        r"missing .* and \d+ more",
    ),
    "fewer layers": (fields(text_config__num_hidden_layers=1, text_config__layer_types=None), CheckpointError, "unexpected"),
    "another vocabulary": (fields(text_config__vocab_size=500), CheckpointError, "of another shape"),
    "a missing shard": (
        lambda f: shard(f, 1).unlink(),
        ConfigurationError,
        r"missing 1 weight file \(model-00002",
    ),
    "a cut shard": (
        lambda f: shard(f).write_bytes(shard(f).read_bytes()[:-9]),
        CheckpointError,
        "not a complete safetensors file",
    ),
    "an empty shard": (lambda f: shard(f).write_bytes(b""), CheckpointError, "not a complete safetensors file"),
    "no index": (lambda f: (f / "model.safetensors.index.json").unlink(), ConfigurationError, "it has no model.safetensors"),
    "pickles": (pickled, ConfigurationError, "only pytorch_model.bin: pickles can run code"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), ConfigurationError, "missing tokenizer.json"),
    "no processor": (lambda f: (f / "processor_config.json").unlink(), ConfigurationError, "missing processor_config.json"),
    "a broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), CheckpointError, "processor cannot be loaded"),
    "other image tokens": (
        fields("processor_config.json", image_tokens=9),
        CheckpointError,
        "image_tokens is 4 in config.json, but 9",
    ),
    "another image token": (fields(image_token_id=5), CheckpointError, "image_token_id is 5 in config.json, but 1"),
    "a connector that is none": (fields(connector_type="mlp"), CheckpointError, "connector_type: expected one of"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_folder_that_is_not_whole_is_refused_by_name(folder: Path, case: str) -> None:
    make, kind, says = BROKEN[case]
    make(folder)
    with pytest.raises(kind, match=says) as caught:
        load_folder(folder)
    message = str(caught.value)
    assert str(folder) in message and "\n" not in message
    assert any(remedy in message for remedy in ("copy the folder again", "give the folder of an MM1"))


def test_tied_weights_and_experts_are_not_missing(tmp_path: Path) -> None:
    for number, options in enumerate(({"tie_word_embeddings": True}, {"moe": True}, {"connector_type": "attention_pool"})):
        model = tiny_model(text={"vocab_size": len(tiny_tokenizer())}, **options)
        _, processor = tiny_mm1()
        processor.tokenizer = tiny_tokenizer()
        folder = export(model, processor, tmp_path / str(number))
        loaded, _ = load_folder(folder)
        assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_a_model_is_opened_by_folder_address_and_digest_and_its_signature_is_checked_first(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "model"))
    private, public = key_pair(tmp_path)
    signatures = Signatures.of(public)
    store = open_store(str(tmp_path / "store"))
    files = store.put_folder(folder)
    counts = {"sequences_seen": 1, "tokens_seen": 1, "images_seen": 1, "world_size": 1, "num_parameters": 1}
    made = Checkpoint(stage="sft", recipe="r", config={}, step=1, total_steps=1, model=files, **counts)
    checkpoint = publish(store, made)
    exported = ExportedModel(checkpoint="0" * 64, files=files, contract={})
    unsigned = publish(store, exported)
    signature = store.put_file(sign(folder, private))
    signed = publish(store, exported.model_copy(update={"signature": signature}))
    for name in (str(folder), signed):
        open_model(name, signatures=signatures)
    digest = signed.rsplit("/", 1)[-1].removesuffix(".json")
    assert open_model(digest, store.uri, signatures).digest == digest
    assert isinstance(open_model(checkpoint).manifest, Checkpoint)
    for name, says in ((str(whole), "no signature"), (unsigned, "no signature"), (checkpoint, "a Checkpoint has no signature")):
        with pytest.raises(CheckpointError, match=says):
            open_model(name, signatures=signatures)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"changed: config\.json"):
        open_model(str(folder), signatures=signatures)
