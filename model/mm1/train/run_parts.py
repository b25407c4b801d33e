"""The parts of a run."""

from __future__ import annotations

from dataclasses import dataclass

from mm1.data.load.loader import MixtureLoader
from mm1.modeling.modeling import MM1ForConditionalGeneration
from mm1.modeling.processing import MM1Processor
from mm1.store.base import Store
from mm1.train.callbacks.device_hours import DeviceHours
from mm1.train.callbacks.metrics import Metrics
from mm1.train.callbacks.progress import ProgressLines
from mm1.train.callbacks.timing import Timing
from mm1.train.callbacks.validation import Validation
from mm1.train.checkpoints import Checkpoints
from mm1.train.config import TrainJob
from mm1.train.engine import Engine
from mm1.train.history import History
from mm1.train.objective import StepObjective
from mm1.train.progress import Progress
from mm1.train.ranks import Ranks


@dataclass(frozen=True)
class RunParts:
    """All parts of a run except its loop; callbacks are created from it."""

    job: TrainJob
    rank: int
    """This process."""
    ranks: Ranks
    """All processes of the run; callbacks that wait for storage meet through it."""
    store: Store
    """Store for checkpoints, metrics and profiles."""
    model: MM1ForConditionalGeneration
    processor: MM1Processor
    engine: Engine
    """The model's optimizer."""
    objective: StepObjective
    """Prepares batches of the loader for the model, and computes their losses."""
    loader: MixtureLoader
    history: History
    """Rows of the run."""
    progress: Progress
    """Progress of the run, previous processes included."""
    checkpoints: Checkpoints
    """Saves checkpoints."""
    metrics: Metrics | None
    """Creates the row of each step; on rank 0."""
    validation: Validation | None
    """Computes validation losses; None without held-out samples."""
    timing: Timing
    """Measures the phases of each step."""
    speed: ProgressLines
    """Measures the speed."""
    device_hours: DeviceHours
    """Counts the device hours of the run, on rank 0."""
