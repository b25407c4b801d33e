"""A ready-made decoder in place of a text stage: published as a checkpoint, not trained."""

from __future__ import annotations

from pathlib import Path

from mm1.checkpoint.write import put_model
from mm1.manifests import Checkpoint, DataMix, load, publish, split_uri
from mm1.store.base import Store
from mm1.store.open import open_store
from mm1.train.config import TrainJob
from mm1.train.model import build_model


def publish_imported(job: TrainJob, store: Store, scratch: Path) -> str:
    """Publish the decoder folder of a job, with a fresh tower and connector, as a checkpoint of stage ``imported``.

    Args:
        job: names the folder; its recipe gives tower and connector.
        store: where to.
        scratch: local folder for files.

    Returns:
        Address of the manifest.

    Raises:
        ConfigurationError: the folder is no causal decoder.
    """
    mix = load(job.data, DataMix)
    mix_store = open_store(split_uri(job.data)[0])
    model, processor = build_model(job.config, mix, mix_store, None, job.vision, job.decoder, scratch)
    return publish(
        store,
        Checkpoint(
            parents=(split_uri(job.data)[1],),
            stage="imported",
            recipe=job.config.recipe,
            config=job.config.model_dump(mode="json"),
            step=0,
            total_steps=0,
            sequences_seen=0,
            tokens_seen=0,
            images_seen=0,
            world_size=1,
            num_parameters=sum(parameter.numel() for parameter in model.parameters()),
            model=put_model(store, model, processor, scratch / "model"),
        ),
    )
