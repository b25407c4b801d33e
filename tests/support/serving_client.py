"""A client of the served model in a pod: it asks twice a second behind the Service and prints a line for each request."""

from __future__ import annotations

import base64
import json
from typing import Any

from mm1_workflows.authoring import profiles
from tests.support.cluster import Cluster

PERIOD_S = 0.5
PROGRAM = """\
import json, os, time, urllib.request

URL = "http://mm1-serve"


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.load(reply)


body = json.loads(os.environ["BODY"])
while True:
    started = time.time()
    try:
        assert ask("/v1/chat/completions", body)["choices"]
        line = "ok " + ask("/v1/models")["data"][0]["root"]
    except Exception as error:
        line = f"failed {type(error).__name__}: {error}"
    print(f"{started:.3f} {time.time() - started:.3f} {line}", flush=True)
    time.sleep(max(0.0, float(os.environ["PERIOD"]) - (time.time() - started)))
"""


def client_pod(place: Cluster, question: str, image: bytes) -> dict[str, Any]:
    """The pod `client`.

    Args:
        place: the namespace.
        question: what it asks.
        image: about this encoded image.
    """
    url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": question}]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 4}
    variables = {"BODY": json.dumps(body), "PERIOD": str(PERIOD_S)}
    container = {
        "name": "client",
        "image": profiles.read(place.profile).images["cpu"],
        "command": ["python", "-c", PROGRAM],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [container], "securityContext": security, "restartPolicy": "Never"}
    return place.object("v1", "Pod", "client", spec=spec)
