"""What the scenes of the scheduled retraining need: captions in a bucket, a webhook, and a schedule that fires when told to."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mm1.store.s3 import S3Store
from mm1.world.config import WorldConfig
from mm1.world.write import write_part
from mm1_workflows.authoring import profiles
from tests.support.cluster import Cluster

SCHEDULE = "mm1.dev/schedule=retrain"
CRON = "mm1-retrain"
WEBHOOK = """\
import http.server


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *values):
        pass


http.server.HTTPServer(("", 8080), Hook).serve_forever()
"""


def captions_arrive(bucket: S3Store, seed: int, number: int, *, shuffled: bool = False) -> None:
    """Add pairs of the toy world to a bucket, as another export with files of its own.

    Args:
        bucket: where `captions` is.
        seed: of the world.
        number: of pairs.
        shuffled: each caption is that of another image: an export that went wrong by a row.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = write_part("captions", Path(name) / "captions", WorldConfig(seed=seed, num_captions=number))
        for path in sorted(folder.glob("*.tar")):
            if shuffled:
                move_images(path)
            bucket.write_file(f"captions/{seed}-{path.name}", path)


def move_images(path: Path) -> None:
    """Give each image of an archive the caption of the one before."""
    with tarfile.open(path) as archive:
        entries = [(entry, archive.extractfile(entry).read()) for entry in archive]  # type: ignore[union-attr]
    images = [content for entry, content in entries if entry.name.endswith(".jpg")]
    moved = iter(images[1:] + images[:1])
    with tarfile.open(path, "w") as archive:
        for entry, content in entries:
            new = next(moved) if entry.name.endswith(".jpg") else content
            entry.size = len(new)
            archive.addfile(entry, io.BytesIO(new))


def webhook(place: Cluster) -> list[dict[str, Any]]:
    """A receiver that prints each message, its Service, and the Secret with its address."""
    container = {
        "name": "webhook",
        "image": profiles.read(place.profile).images["cpu"],
        "command": ["python", "-c", WEBHOOK],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = place.object("v1", "Pod", "webhook", spec={"containers": [container], "securityContext": security})
    pod["metadata"]["labels"] = {"app": "webhook"}
    ports = [{"port": 80, "targetPort": 8080}]
    service = place.object("v1", "Service", "webhook", spec={"selector": {"app": "webhook"}, "ports": ports})
    address = f"http://webhook.{place.namespace}.svc/T0/B0/a-credential"
    secret = place.object("v1", "Secret", "mm1-notify", stringData={"url": address, "link": "https://argo.example/{run}"})
    return [pod, service, secret]


@dataclass
class Scenes:
    """The schedule of a namespace, its runs, and what happened when."""

    place: Cluster
    events: list[dict[str, Any]] = field(default_factory=list)
    """Time (s since 1970) and text of what happened, for the picture."""

    def happened(self, what: str, at: float | None = None) -> None:
        """Note an event."""
        self.events.append({"time": at or time.time(), "what": what})

    def runs(self) -> list[dict[str, Any]]:
        """All runs that the schedule started, oldest first."""
        return sorted(self.place.items("workflows", SCHEDULE), key=lambda run: run["metadata"]["creationTimestamp"])

    def suspend(self, suspended: bool) -> None:
        """Suspend the schedule, or let it fire."""
        patch = json.dumps({"spec": {"suspend": suspended}})
        self.place.kubectl("patch", "cronworkflow", CRON, "--type=merge", "--patch", patch)

    def next_run(self, known: list[dict[str, Any]], seconds: float = 150) -> str:
        """Wait for a run that the schedule starts; its name."""
        names = {run["metadata"]["name"] for run in known}

        def new() -> list[str]:
            return [name for run in self.runs() if (name := run["metadata"]["name"]) not in names]

        found: str = self.place.wait("the schedule to fire", new, seconds)[0]
        self.happened(f"run {found} started")
        return found

    def fire(self) -> str:
        """Let the schedule fire once; the name of its run."""
        known = self.runs()
        self.suspend(False)
        try:
            return self.next_run(known)
        finally:
            self.suspend(True)

    def ended(self, run: str, seconds: float = 900) -> str:
        """Wait for the end of a run; its phase."""
        phase: str = self.place.finished(run, seconds)["status"]["phase"]
        self.happened(f"run {run} ended")
        return phase

    def messages(self) -> dict[str, dict[str, Any]]:
        """What the webhook was told, by run."""
        lines = self.place.kubectl("logs", "webhook").splitlines()
        return {message["run"]: message for line in lines if (message := json.loads(line))}

    def overlaps(self) -> list[tuple[str, str]]:
        """Runs that ran at the same time."""

        def when(run: dict[str, Any], field: str) -> datetime:
            return datetime.fromisoformat(run["status"].get(field) or datetime.now(UTC).isoformat())

        runs = self.runs()
        return [
            (first["metadata"]["name"], second["metadata"]["name"])
            for first, second in itertools.pairwise(runs)
            if when(second, "startedAt") < when(first, "finishedAt")
        ]


def without_controller(place: Cluster, action: Callable[[], None]) -> None:
    """Do something while Argo's controller is away."""

    def scale(replicas: int) -> None:
        argo = ("kubectl", "--namespace", "argo")
        place.run(*argo, "scale", "deployment/workflow-controller", f"--replicas={replicas}")
        if replicas:
            place.run(*argo, "rollout", "status", "deployment/workflow-controller", "--timeout=120s")
        else:
            place.run(*argo, "wait", "--for=delete", "pod", "--selector=app=workflow-controller", "--timeout=60s")

    scale(0)
    try:
        action()
    finally:
        scale(1)
