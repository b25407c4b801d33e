"""Configuration of a training run: the sections of :class:`RunConfig`, and the job that a trainer process reads.

A recipe (:mod:`mm1.recipes`) returns a whole ``RunConfig``; overrides change it; the checkpoint's manifest stores the resolved
one. Torch-free, so that a step or the command line can read and check it quickly::

    recipe -> RunConfig -> overrides -> TrainJob (config + addresses) -> run.json -> python -m mm1.train --config run.json
"""

from mm1.train.config.job import Probe, TrainJob, TrainResult
from mm1.train.config.lora import LoraConfig
from mm1.train.config.model import ConnectorConfig, DecoderConfig, ModelConfig, VisionConfig
from mm1.train.config.optim import OptimConfig, ScheduleConfig
from mm1.train.config.run import LogConfig, RunConfig, SequenceConfig, Stage
from mm1.train.config.train import COLLECTIVE_TIMEOUT_S, LAYOUT_FIELDS, PARTS, TrainConfig, frozen_pattern
from mm1.train.config.vision_stage import AimConfig, ClipConfig

__all__ = [
    "COLLECTIVE_TIMEOUT_S",
    "LAYOUT_FIELDS",
    "PARTS",
    "AimConfig",
    "ClipConfig",
    "ConnectorConfig",
    "DecoderConfig",
    "LogConfig",
    "LoraConfig",
    "ModelConfig",
    "OptimConfig",
    "Probe",
    "RunConfig",
    "ScheduleConfig",
    "SequenceConfig",
    "Stage",
    "TrainConfig",
    "TrainJob",
    "TrainResult",
    "VisionConfig",
    "frozen_pattern",
]
