"""Export of a checkpoint to a folder that plain transformers can load, published as an `ExportedModel`.

Checkpoint -> load, verify -> export folder (safetensors, configuration, processor, code) -> contract test -> manifest
"""

from __future__ import annotations

from pathlib import Path

from mm1.checkpoint.read import load_model
from mm1.errors import CheckpointError
from mm1.manifests import Checkpoint, ExportedModel, digest_of_manifest
from mm1.modeling.export import export
from mm1.serve.contract import check_contract
from mm1.store.base import Store

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def export_checkpoint(source: Store, checkpoint: Checkpoint, target: Store, work: Path) -> tuple[ExportedModel, Path]:
    """Export a checkpoint's model and verify that the exported model gives the same outputs.

    Args:
        source: store of the checkpoint's blobs.
        checkpoint: the checkpoint.
        target: store for the exported files.
        work: folder for temporary files; the export stays in it as `exported/`.

    Returns:
        The manifest (not published yet) and the local folder.

    Raises:
        CheckpointError: the checkpoint is damaged, or the exported model differs from it.
    """
    model, processor = load_model(source, checkpoint, work / "checkpoint")
    folder = export(model, processor, work / "exported")
    if pickled := sorted(path.name for path in folder.rglob("*") if path.suffix in PICKLES):
        raise CheckpointError(f"the export contains pickled files, which can run code when loaded: {', '.join(pickled)}")
    contract = check_contract(model, processor, folder, work / "contract")
    digest = digest_of_manifest(checkpoint)
    return ExportedModel(parents=(digest,), checkpoint=digest, files=target.put_folder(folder), contract=contract), folder
