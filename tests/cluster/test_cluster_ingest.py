"""Ingest on many pods, from a bucket: a loop over parts on Argo gives the data of one process on this machine, to the byte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mm1.manifests import RawData, load, split_uri
from mm1.store.open import open_store
from mm1.store.s3 import S3Store
from tests.support.cluster import ROOT, Cluster
from tests.support.raw_files import pairs, write_img2dataset, write_text

PART = 100_000
EMPTY = ("interleaved", "synthetic", "instructions")


def test_parts_on_pods_give_the_data_of_one_machine(cluster: Cluster, tmp_path: Path) -> None:
    for number in range(4):
        write_img2dataset(tmp_path / "captions" / f"{number:05d}.tar", [*pairs(40)[number : number + 30], *pairs(1)])
        texts = [f"text {line} of {number} is here" for line in range(300)]
        write_text(tmp_path / "text" / f"{number}.jsonl", [*texts, "twice the same"])
    bucket = S3Store(f"{cluster.store}/raw-files")
    for path in tmp_path.rglob("*.*"):
        bucket.write_file(path.relative_to(tmp_path).as_posix(), path)
    addresses = [f"{source}={bucket.uri}/{source}" for source in ("captions", "text")]
    settings = ["preset=toy", "vocabulary=400", f"part_bytes={PART}", *(f"{source}=" for source in EMPTY)]
    name = cluster.submit("workflows/ingest.py", *addresses, *settings)
    watched = cluster.mm1("watch", name, "-n", cluster.namespace, check=False)
    assert watched.returncode == 0, watched.stdout[-2000:] + watched.stderr[-2000:]
    store = open_store(cluster.store)
    found = [record for key in store.list(f"runs/{name}/") if (record := store.read_json(key))]
    assert sum(record["step"] == "ingest_filter" for record in found) >= 4
    uri = next(record["outputs"]["manifest"] for record in found if record["step"] == "ingest_collect")
    here = [f"--{source}={tmp_path / source}" for source in ("captions", "text")]
    here += ["--preset=toy", "--vocabulary=400", f"--part-bytes={PART}", f"--store={tmp_path / 'store'}"]
    command = [sys.executable, "-m", "mm1_components.ingest", *here, f"--out.manifest={tmp_path / 'out'}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    local = (tmp_path / "out").read_text()
    assert split_uri(uri)[1] == split_uri(local)[1]
    data = load(local, RawData)
    assert data.sources["captions"].dropped["duplicate"] > 0 and data.sources["text"].dropped == {"duplicate": 3}
