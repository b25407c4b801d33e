"""Building the loader of a run, which forks its worker processes: before the process group exists, so before all else.

DataMix, RawData, layout of this world -> MixtureLoader at the start of the data
"""

from __future__ import annotations

from mm1.data.load.loader import MixtureLoader
from mm1.data.load.statistics import check_epochs
from mm1.errors import ConfigurationError
from mm1.manifests import Checkpoint, DataMix, RawData, load, load_digest, split_uri
from mm1.store.open import open_store
from mm1.train.batch_plan import plan_layout
from mm1.train.config import TrainJob
from mm1.train.continuation import num_sequences


def build_loader(job: TrainJob, rank: int, world_size: int) -> MixtureLoader:
    """Build the loader at the start of the data, and fork its worker processes.

    Call this before the process group is created: forking with its threads and registered memory can hang RDMA.

    Raises:
        Mm1Error: the configuration or the data do not fit.
    """
    train, mix = job.config.train, load(job.data, DataMix)
    resumed = load(job.resume, Checkpoint) if job.resume else None
    if trouble := check_epochs(mix, num_sequences(job, resumed.step if resumed else 0)):
        raise ConfigurationError(f"train.steps: {trouble}")
    store, batch_plan = open_store(split_uri(job.data)[0]), plan_layout(train, world_size)
    raw = load_digest(store, mix.raw)
    if not isinstance(raw, RawData):
        raise ConfigurationError(f"data: expected RawData as its parent {mix.raw[:12]}")
    loader = MixtureLoader(
        store,
        mix,
        raw,
        micro_batch=batch_plan.micro_batch,
        global_batch=batch_plan.global_batch,
        rank=rank,
        world_size=world_size,
        num_workers=train.loader_workers,
    )
    loader.start_workers()
    return loader
