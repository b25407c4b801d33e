"""A namespace of a cluster through the Kubernetes API: the client of what runs in a pod and manages objects there.

Objects are plain dicts. Requests are retried for a limited time while the API server is unreachable or rejects the token, so
neither a restart of the control plane nor a rotation of tokens does any harm. A missing permission is an error at once.
"""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from mm1.errors import ConfigurationError, NetworkError
from mm1_components.kube.pods import Object

log = logging.getLogger("mm1")

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
INVALID = (400, 403, 422)
UNAUTHORIZED, MISSING, CONFLICT = 401, 404, 409
MERGE_PATCH = "application/merge-patch+json"
Query = Sequence[tuple[str, str]]

REQUEST_S = 30
"""A request without an answer; the API server itself gives up after 60 s, and most answers take milliseconds."""
EVENT_S = 5
"""An Event is sent once."""
MAX_EVENT = 1024
"""Characters of the message of an Event; Kubernetes refuses longer ones."""
API_AWAY_S = 600.0
"""The API server is unreachable, or rejects the token: an upgrade of a control plane takes minutes, and tokens rotate. Then the
step exits with 84 and is retried; ranks continue until their next supervisor, or until their lease ends."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
"""Between two attempts of a request, doubled each time: a restart of seconds is noticed soon, one of minutes not often."""


class Namespace:
    """A namespace of a cluster."""

    role: ClassVar[str]
    """Role of the chart with the permissions that the requests need, for messages."""
    needed_by: ClassVar[str]
    """What requires a pod, and the remedy, for the message outside a pod: ``X requires a pod of a cluster (...); Y``."""

    def __init__(
        self,
        api: client.ApiClient,
        namespace: str,
        *,
        patience_s: float = API_AWAY_S,
        pause: Callable[[float], None] = time.sleep,
        pod: str = "",
    ) -> None:
        """Set the client and the namespace.

        Args:
            api: configured client.
            namespace: namespace of all objects.
            patience_s: seconds for which the API server may be unreachable.
            pause: sleeps for the given seconds before a retry.
            pod: name of the pod of this process; empty if unknown.
        """
        self.api, self.namespace, self.pod = api, namespace, pod
        self.patience_s, self.pause = patience_s, pause

    @classmethod
    def of_this_pod(cls) -> Self:
        """Return the namespace of this pod, with the permissions of its service account.

        Raises:
            ConfigurationError: this process does not run in a pod.
        """
        settings = client.Configuration()
        settings.retries = False  # retries are handled in this class
        try:
            config.load_incluster_config(client_configuration=settings)
        except config.ConfigException as error:
            needed, _, remedy = cls.needed_by.partition("; ")
            raise ConfigurationError(f"{needed} requires a pod of a cluster ({error}); {remedy}") from None
        # the host name of a pod is its name, cut off after 63 characters
        return cls(client.ApiClient(settings), NAMESPACE_FILE.read_text().strip(), pod=socket.gethostname())

    def path(self, api_version: str, plural: str, name: str = "") -> str:
        """Return the path of a kind or of an object."""
        root = "/apis" if "/" in api_version else "/api"
        return f"{root}/{api_version}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def objects(self, api_version: str, plural: str, selector: str, what: str) -> list[Object]:
        """Return the objects with labels; none if the cluster does not have the kind."""
        answer = self.ask("GET", self.path(api_version, plural), what, [("labelSelector", selector)])
        return list(answer["items"]) if answer else []

    def ask(self, method: str, path: str, what: str, query: Query = (), body: Object | None = None) -> Object | None:
        """Send a request and return the answer; None if the object does not exist.

        Args:
            method: GET, POST, PATCH or DELETE.
            path: of :meth:`path`.
            what: the request or the object, for messages.
            query: parameters.
            body: the object, or its changes.

        Raises:
            ConfigurationError: forbidden, or the object is invalid.
            FileExistsError: the object exists already, or has another resourceVersion than the changes are for.
            NetworkError: the API server stays unreachable, or rejects the token all the time.
        """
        started = time.monotonic()
        wait_s = FIRST_PAUSE_S
        while True:
            try:
                answer = self.send(method, path, query, body)
                if isinstance(answer, dict):
                    return answer
                reason = "an answer that is not a JSON object"  # of a proxy in between
            except client.ApiException as error:
                if error.status == MISSING:
                    return None
                versioned = ((body or {}).get("metadata") or {}).get("resourceVersion")
                if error.status == CONFLICT and (method == "POST" or versioned):  # otherwise two writers at once
                    raise FileExistsError(what) from None
                if error.status == CONFLICT and (body or {}).get("preconditions"):  # another object of the same name
                    return None
                if error.status in INVALID:
                    raise ConfigurationError(self._rejection(what, error)) from None
                reason = f"{error.status} {error.reason}"
                if error.status == UNAUTHORIZED:  # tokens rotate; the client reads the file of the next one within a minute
                    reason += ", the token is not accepted"
            except (HTTPError, OSError) as error:
                reason = type(error).__name__
            if time.monotonic() - started >= self.patience_s:
                raise NetworkError(f"{what}: the Kubernetes API was unreachable for {self.patience_s:g} s ({reason})")
            log.warning("%s: Kubernetes API: %s; retrying", what, reason)
            self.pause(wait_s)
            wait_s = min(wait_s * 2, LONGEST_PAUSE_S)

    def send(
        self,
        method: str,
        path: str,
        query: Query,
        body: Object | None = None,
        *,
        timeout_s: float | tuple[float, float] = REQUEST_S,
        stream: bool = False,
    ) -> Any:
        """Send a request once. Arguments as for :meth:`ask`.

        Raises:
            ApiException, HTTPError, OSError: it failed.
        """
        kind = MERGE_PATCH if method == "PATCH" else "application/json"
        return self.api.call_api(
            path,
            method,
            query_params=list(query),
            header_params={"Accept": "*/*" if stream else "application/json", "Content-Type": kind},
            body=body,
            response_type="object",
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _preload_content=not stream,
            _request_timeout=timeout_s,
        )

    def event(self, about: Object, reason: str, message: str, *, is_warning: bool) -> None:
        """Write an Event about an object, if that is permitted and possible at once: it must not fail or delay the work.

        Args:
            about: apiVersion, kind, name and uid of the object.
            reason: one word in camel case.
            message: one sentence.
            is_warning: whether the Event is a warning.
        """
        now = datetime.now(UTC)
        names = ("apiVersion", "kind", "name", "uid")
        body = {
            "metadata": {"name": f"{about['name']}.{time.time_ns():x}"},
            "involvedObject": {name: about[name] for name in names} | {"namespace": self.namespace},
            "reason": reason,
            "message": message if len(message) <= MAX_EVENT else message[: MAX_EVENT - 1] + "…",
            "type": "Warning" if is_warning else "Normal",
            "firstTimestamp": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            "lastTimestamp": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            "count": 1,
            "source": {"component": self.role},
        }
        try:
            self.send("POST", self.path("v1", "events"), (), body, timeout_s=EVENT_S)
        except (client.ApiException, HTTPError, OSError) as error:
            log.info("no Event %s about %s: %s", reason, about["name"], getattr(error, "reason", None) or type(error).__name__)

    def _rejection(self, what: str, error: Any) -> str:
        remedy = f"; grant this permission to the service account, as the role {self.role} of the chart does"
        return f"{what}: rejected by the cluster ({error.status}): {_message(error)}{remedy if error.status == 403 else ''}"


def _message(error: Any) -> str:
    try:
        return " ".join(str(json.loads(error.body)["message"]).split())[:500]
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
