"""Each outcome class from a rank to the exit code of the command line, through pod, JobSet, supervisor and Argo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mm1.errors import Outcome
from mm1.store.open import open_store
from tests.support.cluster import TRAIN, Cluster, Mixtures

SIZE = "train.steps=2 train.global_batch=8 train.micro_batch=4 schedule.warmup_steps=1"
# class -> (JobSets that the supervisor makes in one attempt, attempts that Argo makes, restarts by JobSet in each)
TABLE = {
    Outcome.CONFIGURATION: (1, 1),
    Outcome.DATA: (1, 1),
    Outcome.DIVERGED: (1, 1),
    Outcome.OUT_OF_MEMORY: (3, 1),  # micro-batch 4, 2, 1
    Outcome.HARDWARE: (3, 2),  # away from the node, twice; then the engine tries
    Outcome.NETWORK: (1, 2),
    Outcome.CHECKPOINT: (1, 2),
    Outcome.BUDGET: (1, 1),
}


def once(content: dict[str, Any]) -> None:
    """The engine tries once more and JobSet never, so that a test ends soon."""
    content["retries"] = {"step": 1, "supervisor": 1, "restarts": 0}


@pytest.fixture(scope="module")
def runs(cluster: Cluster, mixtures: Mixtures, tmp_path_factory: pytest.TempPathFactory) -> dict[Outcome, str]:
    """One run for each class, all at once; the workflows' names."""
    folder = tmp_path_factory.mktemp("profiles")
    names = {}
    for outcome in TABLE:
        variables = {"MM1_TEST_OUTCOME": str(int(outcome))}
        profile = cluster.variant(Path(folder / f"{outcome.name}.yaml"), once, inject=True, **variables)
        names[outcome] = cluster.submit(
            TRAIN, f"data={mixtures.text}", f"overrides={SIZE}", f"seed=9{int(outcome)}", profile=profile
        )
    return names


@pytest.mark.parametrize("outcome", TABLE, ids=lambda one: one.name.lower())
def test_a_rank_s_class_is_the_exit_code_of_the_command(cluster: Cluster, runs: dict[Outcome, str], outcome: Outcome) -> None:
    launches, attempts = TABLE[outcome]
    name = runs[outcome]
    done = cluster.mm1("watch", name, "-n", cluster.namespace, check=False)
    assert done.returncode == int(outcome), done.stdout[-2000:] + done.stderr[-2000:]
    nodes = cluster.workflow(name)["status"]["nodes"].values()
    codes = [node["outputs"]["exitCode"] for node in nodes if node["type"] == "Pod" and node.get("outputs", {}).get("exitCode")]
    assert codes == [str(int(outcome))] * attempts
    record = open_store(cluster.store).read_json(f"runs/{name}/pretrain.json") or {}
    assert record["outcome"] == int(outcome) and "told to fail" in record["message"] and record["attempts"] == attempts
    assert len(record["facts"].get("relaunched", [])) == launches - 1
