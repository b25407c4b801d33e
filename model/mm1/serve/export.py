"""Export of a checkpoint to a folder that plain transformers can load, and its publication as an `ExportedModel`.

Checkpoint -> load, verify -> folder (safetensors, configuration, processor, code, README.md)
           -> contract test -> signature -> manifest
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mm1.checkpoint.folder import CONFIG, PICKLES
from mm1.checkpoint.read import load_model
from mm1.errors import CheckpointError
from mm1.lineage.model_card import CARD_NAME, known_ancestors, render_card
from mm1.lineage.signing import sign
from mm1.manifests import Checkpoint, EvalReport, ExportedModel, digest_of_manifest
from mm1.modeling.export import MAX_SHARD_SIZE, export
from mm1.serve.contract import check_contract
from mm1.store.base import Store


def export_checkpoint(
    source: Store,
    checkpoint: Checkpoint,
    target: Store,
    work: Path,
    *,
    reports: Sequence[EvalReport] = (),
    sign_key: Path | None = None,
) -> tuple[ExportedModel, Path]:
    """Export a checkpoint's model and verify that the exported model gives the same outputs.

    Args:
        source: store of the checkpoint's blobs.
        checkpoint: the checkpoint.
        target: store for the exported files.
        work: folder for temporary files; the export stays in it as `exported/`.
        reports: evaluations of the checkpoint for the model card, the newest last.
        sign_key: private key (PEM) that signs the folder; None leaves it unsigned.

    Returns:
        The manifest (not published yet) and the local folder.

    Raises:
        ConfigurationError: the key cannot sign.
        CheckpointError: the checkpoint is damaged, or the exported model differs from it.
    """
    model, processor = load_model(source, checkpoint, work / "checkpoint", merge=True)
    folder = write_export(model, processor, source, checkpoint, work / "exported", reports=reports)
    contract = check_contract(model, processor, folder, work / "contract")
    digest = digest_of_manifest(checkpoint)
    files = target.put_folder(folder)
    signature = target.put_file(sign(folder, sign_key)) if sign_key else None
    return ExportedModel(parents=(digest,), checkpoint=digest, files=files, contract=contract, signature=signature), folder


def write_export(
    model: Any,
    processor: Any,
    source: Store,
    checkpoint: Checkpoint,
    folder: Path,
    *,
    reports: Sequence[EvalReport] = (),
    max_shard_size: int | str = MAX_SHARD_SIZE,
) -> Path:
    """Write a model of a checkpoint with its model card to a folder.

    Args:
        model: the checkpoint's model.
        processor: its processor.
        source: store with the checkpoint's ancestors, for the model card.
        checkpoint: the checkpoint.
        folder: target folder.
        reports: evaluations of the checkpoint, the newest last.
        max_shard_size: maximum size of a file of weights, in bytes or such as "5GB".

    Raises:
        CheckpointError: the folder got files that can run code when they are loaded.
    """
    export(model, processor, folder, max_shard_size=max_shard_size)
    if pickled := sorted(path.name for path in folder.rglob("*") if path.suffix in PICKLES):
        raise CheckpointError(f"the export contains pickled files, which can run code when loaded: {', '.join(pickled)}")
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    card = render_card(known_ancestors(source, checkpoint), reports, config, processor.layout, num_parameters)
    (folder / CARD_NAME).write_text(card, encoding="utf-8")
    return folder
