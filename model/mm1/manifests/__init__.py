r"""Manifests: typed records passed between steps.

A manifest holds *content* only: the kind of result, its parents, its configuration, its size, and the digests of its blobs.
Addresses, times, hosts, attempts and cache hits are *provenance* and are kept in run records
(``<store>/runs/<run>/<task>.json``). The digest of a manifest is taken of its canonical JSON, so the same work has the same
digest on every engine. Steps pass each other its address, ``<store>/manifests/<sha256>.json``.

Lineage::

    RawData -> DataMix -> Checkpoint -> Checkpoint (SFT) -> EvalReport -> GateDecision
                                    \-> ExportedModel -> Deployment

Within ingest, on many machines: ``IngestPlan -> FilteredParts -> MergedParts -> ShardedParts -> RawData``.
"""

from mm1.manifests.base import Digest, Files, Manifest, Record
from mm1.manifests.data import DataMix, MixSource, RawData, Shard, SourceData
from mm1.manifests.ingest import (
    FilteredPart,
    FilteredParts,
    IngestPlan,
    MergedParts,
    PlannedSource,
    RawFile,
    RawPart,
    ShardedPart,
    ShardedParts,
)
from mm1.manifests.models import (
    Checkpoint,
    Comparison,
    Deployment,
    EvalReport,
    ExportedModel,
    GateDecision,
    GateRule,
    ReportPage,
    Score,
)
from mm1.manifests.storing import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    AnyManifest,
    ManifestT,
    blobs_of,
    digest_of_manifest,
    load,
    load_digest,
    load_whole,
    manifest_key,
    publish,
    split_uri,
)
from mm1.manifests.studies import Cell, CellUse, PlannedStudy, StageRun, StudyPlan, StudyReport

__all__ = [
    "MANIFEST_NAME",
    "SCHEMA_VERSION",
    "AnyManifest",
    "Cell",
    "CellUse",
    "Checkpoint",
    "Comparison",
    "DataMix",
    "Deployment",
    "Digest",
    "EvalReport",
    "ExportedModel",
    "Files",
    "FilteredPart",
    "FilteredParts",
    "GateDecision",
    "GateRule",
    "IngestPlan",
    "Manifest",
    "ManifestT",
    "MergedParts",
    "MixSource",
    "PlannedSource",
    "PlannedStudy",
    "RawData",
    "RawFile",
    "RawPart",
    "Record",
    "ReportPage",
    "Score",
    "Shard",
    "ShardedPart",
    "ShardedParts",
    "SourceData",
    "StageRun",
    "StudyPlan",
    "StudyReport",
    "blobs_of",
    "digest_of_manifest",
    "load",
    "load_digest",
    "load_whole",
    "manifest_key",
    "publish",
    "split_uri",
]
