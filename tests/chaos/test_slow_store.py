"""A store that is slower than the time limit of collectives delays a training, and does not end it."""

from __future__ import annotations

import os
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tests.support.flaky_proxy import FlakyProxy
from tests.support.s3_server import s3_server
from tests.support.tiny_runs import SMALL_PARTS, small_mix

pytestmark = pytest.mark.chaos
LIMIT_S = 2
BYTES_PER_S = 5_000_000
OVERRIDES = (
    *SMALL_PARTS,
    "model.decoder.ffn_size=65536",  # 12.6 million weights: 50 MB, ten seconds
    "train.steps=2",
    "train.global_batch=2",
    "train.micro_batch=1",
    "train.checkpoint_every=1",
    f"train.collective_timeout_s={LIMIT_S}",
    "log.wandb=off",
)


def test_writes_that_take_several_limits_of_a_collective_only_delay(tmp_path, monkeypatch):
    data = small_mix(tmp_path)[1]
    with s3_server(monkeypatch, "slow"):
        address = urlsplit(os.environ["S3_ENDPOINT"])
        with FlakyProxy(str(address.hostname), int(address.port or 0), BYTES_PER_S) as proxy:
            env = os.environ | {"S3_ENDPOINT": f"http://127.0.0.1:{proxy.port}", "OMP_NUM_THREADS": "1"}
            options = ["--data", data, "--recipe", "mm1_tiny", "--overrides", " ".join(OVERRIDES), "--processes", "2"]
            options += ["--store", "s3://slow/store", "--work", str(tmp_path / "work"), "--out.manifest", str(tmp_path / "out")]
            command = [sys.executable, "-m", "mm1_components.pretrain", *options]
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "out").read_text().startswith("s3://slow/store/manifests/")
