"""A loop over many items runs to its end on the cluster, with a record of each."""

from __future__ import annotations

from pathlib import Path

from mm1.store.open import open_store
from tests.support.cluster import FAN_OUT, Cluster


def test_sixty_tasks_run_to_the_end(cluster: Cluster, tmp_path: Path) -> None:
    profile = cluster.variant(tmp_path / "toys.yaml", lambda content: None)
    name = cluster.submit(FAN_OUT, profile=profile)
    done = cluster.mm1("watch", name, "-n", cluster.namespace, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    store = open_store(cluster.store)
    said = [record["outputs"]["text"] for key in store.list(f"runs/{name}/") if (record := store.read_json(key))]
    assert sorted(said) == [f"shard-{number:02}" for number in range(60)]
