"""Publishing a pretrained decoder as a checkpoint, in place of a text stage."""

from __future__ import annotations

from pathlib import Path

from mm1.checkpoint.write import put_model
from mm1.manifests import Checkpoint, DataMix, load, publish, split_uri
from mm1.store.base import Store
from mm1.store.open import open_store
from mm1.train.config import TrainJob, TrainResult
from mm1.train.model import build_model
from mm1.train.model_origin import fit_tower


def publish_decoder(job: TrainJob) -> TrainResult:
    """Publish a job's decoder as the result of a stage of zero steps."""
    uri = publish_imported(job, open_store(job.store), Path(job.folder))
    zeros = {"steps": 0, "resumed_from": 0, "seconds": 0.0, "tokens": 0, "tokens_per_s": 0.0, "padding_share": 0.0}
    return TrainResult(manifest=uri, losses={}, facts={}, **zeros)


def publish_imported(job: TrainJob, store: Store, scratch: Path) -> str:
    """Publish the decoder folder of a job, with a fresh tower and connector, as a checkpoint of stage ``imported``.

    Args:
        job: names the folder; its recipe sets the tower and the connector.
        store: store to publish to.
        scratch: local folder for temporary files.

    Returns:
        Address of the manifest.

    Raises:
        ConfigurationError: the folder does not hold a causal decoder.
    """
    mix = load(job.data, DataMix)
    mix_store = open_store(split_uri(job.data)[0])
    config = fit_tower(job.config, mix.image_size_px, job.decoder)
    model, processor = build_model(config, mix, mix_store, scratch, vision=job.vision, decoder=job.decoder)
    return publish(
        store,
        Checkpoint(
            parents=(split_uri(job.data)[1],),
            stage="imported",
            recipe=job.config.recipe,
            config=config.model_dump(mode="json"),
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
