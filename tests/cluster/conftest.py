"""One prepared namespace for all cluster tests; a tier without a cluster fails loudly, it is not skipped."""

from __future__ import annotations

import os
import shlex
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import cluster as support
from tests.support.cluster import Cluster, Mixtures


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are of the cluster tier; the longest file comes last, where a limit of time cuts it off."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cluster)
    items.sort(key=lambda item: item.path.name == "test_cluster_retrain.py")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start no test after MM1_CLUSTER_UNTIL (seconds since 1970): where a run has a limit, what was left out is counted."""
    until = float(os.environ.get("MM1_CLUSTER_UNTIL", "inf"))
    if time.time() > until:
        pytest.skip("the time that this run has for cluster tests is up")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster, with a namespace in which pipelines can run."""
    environment = support.start()
    tool = shlex.split(os.environ.get("MM1_CLUSTER_UP", ""))
    if not tool:
        namespace, profile = os.environ["MM1_CLUSTER_NAMESPACE"], os.environ["MM1_CLUSTER_PROFILE"]
        yield Cluster(namespace, environment, [], profile, store=f"s3://data/{uuid.uuid4().hex[:8]}")
        return
    namespace = os.environ.get("MM1_CLUSTER_NAMESPACE") or f"mm1-test-{uuid.uuid4().hex[:6]}"
    made = Cluster(namespace, environment, tool, store=f"s3://data/{namespace}-{uuid.uuid4().hex[:6]}")
    if not os.environ.get("MM1_CLUSTER_KEEP_IMAGE"):
        support.load_thin_image(tool, environment)
    made.prepare(tmp_path_factory.mktemp("chart") / "mm1")
    os.environ.update({name: environment[name] for name in ("S3_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")})
    yield made
    if not os.environ.get("MM1_CLUSTER_KEEP"):
        made.remove()


@pytest.fixture(scope="session")
def namespace(cluster: Cluster) -> str:
    """The namespace."""
    return cluster.namespace


@pytest.fixture(scope="session")
def mixtures(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Mixtures:
    """Small mixtures to train on."""
    return support.make_mixtures(cluster, tmp_path_factory.mktemp("world"))
