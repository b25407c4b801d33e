r"""The cluster that serves by KServe, through the Kubernetes API: an InferenceService in its Standard (raw deployment) mode.

::

    InferenceService mm1-serve   spec.predictor: annotation mm1.dev/model = model
                                 spec.canary: at most one predictor `canary` with another model, and its trafficPercent
    ConfigMap mm1-serve-rollout  data: rollout = journal, model = the model that is being set
    Deployments                  mm1-serve-predictor and mm1-serve-canary-predictor, which KServe makes of it

The journal is not an annotation of the InferenceService, because KServe copies those to the pods, so that each change would
replace them. Journal and model are therefore written one after the other, the intended model first: :meth:`served` completes
what a killed attempt has begun. ``canaryTrafficPercent`` has an effect with Knative only; in this mode KServe 0.21 has
``spec.canary``, and refuses it unless the predictor has a ``model``, whose ServingRuntime is the chart's.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable

from mm1.config.resolve import canonical_json
from mm1.errors import ConfigurationError
from mm1.store.base import digest_of
from mm1_components.kube.pods import Object
from mm1_components.serving.names import (
    APPS,
    BY_ANNOTATION,
    CANARY,
    CANARY_ANNOTATION,
    CONTAINERS,
    KSERVE,
    MODEL_ANNOTATION,
    MODEL_VARIABLE,
    SOURCE_ANNOTATION,
    TRACK_LABEL,
    predictor_name,
    state_name,
)
from mm1_components.serving.objects import MANAGER, ServingNamespace, annotations_of, is_complete, journal_in, pod_of, tell
from mm1_components.serving.state import Canary, Journal, Pod, Served

JOURNAL, INTENDED = "rollout", "model"
"""Keys of the ConfigMap; the second one is there only while the model is being set."""


class InferenceServiceCluster:
    """An InferenceService, and its canary."""

    def __init__(self, namespace: ServingNamespace, name: str) -> None:
        """Set the namespace and the name of the InferenceService."""
        self.namespace, self.name = namespace, name

    # -- what is served ---------------------------------------------------------------------------------------

    def served(self) -> Served:
        """Return what is served, after the model that a killed attempt was setting is set."""
        live, state = self._live(), self._state()
        if INTENDED in state:
            self._set(state[INTENDED])
            live = self._live()
        model = _model_of(live["spec"]["predictor"])
        path = self.namespace.path(APPS, "deployments", predictor_name(self.name))
        deployment = self.namespace.ask("GET", path, f"Deployment {predictor_name(self.name)}")
        replicas = int((deployment or {"spec": {}})["spec"].get("replicas", live["spec"]["predictor"].get("minReplicas", 1)))
        return Served(
            model=model,
            replicas=replicas,
            is_complete=deployment is not None
            and annotations_of(deployment["spec"]["template"]).get(MODEL_ANNOTATION, "") == model
            and is_complete(deployment, replicas),
            journal=journal_in(state.get(JOURNAL, "")),
        )

    def set_model(self, model: str, journal: Journal | None) -> None:
        """Set the served model and the journal: the intention first, so that :meth:`served` completes it."""
        self._keep({JOURNAL: journal.model_dump_json() if journal else None, INTENDED: model})
        self._set(model)

    def set_journal(self, journal: Journal | None) -> None:
        """Set the journal alone."""
        self._keep({JOURNAL: journal.model_dump_json() if journal else None})

    def _set(self, model: str) -> None:
        self._patch({"spec": {"predictor": {"annotations": {MODEL_ANNOTATION: model or None}}}}, "changing")
        self._keep({INTENDED: None})

    def _state(self) -> dict[str, str]:
        path = self.namespace.path("v1", "configmaps", state_name(self.name))
        state = self.namespace.ask("GET", path, f"ConfigMap {state_name(self.name)}")
        if state is None:
            raise self._no_state()
        return dict(state.get("data") or {})

    def _keep(self, data: dict[str, str | None]) -> None:
        path = self.namespace.path("v1", "configmaps", state_name(self.name))
        if self.namespace.ask("PATCH", path, f"ConfigMap {state_name(self.name)}", MANAGER, {"data": data}) is None:
            raise self._no_state()

    def _no_state(self) -> ConfigurationError:
        return ConfigurationError(
            f"namespace {self.namespace.namespace} has no ConfigMap {state_name(self.name)}, where a rollout keeps what it has "
            "begun: upgrade the chart, which makes it if serving.kserve.enabled and serving.rollout.enabled"
        )

    def _path(self) -> str:
        return self.namespace.path(KSERVE, "inferenceservices", self.name)

    def _patch(self, body: Object, doing: str) -> None:
        if self.namespace.ask("PATCH", self._path(), f"{doing} InferenceService {self.name}", MANAGER, body) is None:
            raise self._missing()

    def _live(self) -> Object:
        live = self.namespace.ask("GET", self._path(), f"InferenceService {self.name}")
        if live is None:
            raise self._missing()
        variables = (live["spec"]["predictor"].get("model") or {}).get("env") or []
        if MODEL_VARIABLE not in [each["name"] for each in variables]:
            raise ConfigurationError(
                f"InferenceService {self.name}: spec.predictor.model.env has no {MODEL_VARIABLE}, so a rollout cannot set "
                "the model: set serving.kserve.enabled=true, serving.rollout.enabled=true and an empty serving.model in the "
                "chart's values and upgrade it"
            )
        return live

    def tell(self, action: str, message: str) -> None:
        """Write an Event about the InferenceService, if that is possible.

        Args:
            action: of the record: promoted, rolled back or refused.
            message: one sentence.
        """
        tell(self.namespace, KSERVE, "InferenceService", self._live, action, message)

    def _missing(self) -> ConfigurationError:
        return ConfigurationError(
            f"deployment_name: namespace {self.namespace.namespace} has no InferenceService {self.name!r}, or the cluster has "
            "no KServe: set serving.kserve.enabled=true in the chart's values, or serving_target=deployment"
        )

    # -- the canary -------------------------------------------------------------------------------------------

    def canary(self) -> Canary | None:
        """Return the canary; None if there is none."""
        live = self._live()
        canary = _canary_in(live)
        if canary is None:
            return None
        annotations = canary["predictor"].get("annotations") or {}
        return Canary(
            uid=annotations.get(CANARY_ANNOTATION, ""),
            model=_model_of(canary["predictor"]),
            by=annotations.get(BY_ANNOTATION, ""),
            is_current=annotations.get(SOURCE_ANNOTATION) == _source(live),
        )

    def start_canary(self, model: str, by: str, replicas: int) -> None:
        """Add the canary, without requests; nothing if there is one already."""
        self._change_canary(
            lambda live, canary: canary or canary_of(live, model, by, replicas, uid=uuid.uuid4().hex), "creating the canary of"
        )

    def remove_canary(self, canary: Canary) -> None:
        """Remove this canary, but not another one."""
        self._change_canary(lambda _, live: None if live and _uid(live) == canary.uid else live, "deleting the canary of")

    def set_canary_weight(self, percent: int) -> None:
        """Set the canary's share of the requests through the Gateway of KServe."""
        self._change_canary(lambda _, canary: canary and canary | {"trafficPercent": percent}, "setting the weight of")

    def _change_canary(self, change: Callable[[Object, Object | None], Object | None], doing: str) -> None:
        """Replace the list of canaries, but only if nobody has changed the InferenceService since it was read."""
        while True:
            live = self._live()
            canary = change(live, _canary_in(live))
            if canary == _canary_in(live):
                return
            version = {"resourceVersion": live["metadata"]["resourceVersion"]}
            try:
                self._patch({"metadata": version, "spec": {"canary": [canary] if canary else None}}, doing)
            except FileExistsError:  # KServe writes its status, for example
                continue
            return

    # -- pods -------------------------------------------------------------------------------------------------

    def pods(self, model: str, *, of_canary: bool) -> list[Pod]:
        """Return the pods of a model that are not ending, of the canary or of the others."""
        canary = _canary_in(self._live()) if of_canary else None
        if of_canary and canary is None:
            return []
        label = f"app=isvc.{predictor_name(self.name, CANARY if of_canary else '')}"
        pods = self.namespace.objects("v1", "pods", label, "pods that serve")
        return [
            pod_of(pod)
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
            and annotations_of(pod).get(MODEL_ANNOTATION, "") == model
            and (canary is None or annotations_of(pod).get(CANARY_ANNOTATION) == _uid(canary))
        ]


def canary_of(live: Object, model: str, by: str, replicas: int, *, uid: str) -> Object:
    """Build the canary: the served predictor's model with other annotations and a name; KServe adds the rest of the predictor.

    Args:
        live: the InferenceService.
        model: address of the model.
        by: the rollout.
        replicas: number of pods; KServe accepts no more than minReplicas of the predictor.
        uid: name of this canary, which no other one has.
    """
    predictor = live["spec"]["predictor"]
    own = {MODEL_ANNOTATION: model, BY_ANNOTATION: by, SOURCE_ANNOTATION: _source(live), CANARY_ANNOTATION: uid}
    return {
        "predictor": {
            "name": CANARY,
            "minReplicas": replicas,
            "labels": (predictor.get("labels") or {}) | {TRACK_LABEL: CANARY},
            "annotations": (predictor.get("annotations") or {}) | own,
            "model": copy.deepcopy(predictor["model"]) | {"name": CONTAINERS[1]},  # its schema requires a name here only
        },
        "trafficPercent": 0,
    }


def _canary_in(live: Object) -> Object | None:
    canaries = live["spec"].get("canary") or []
    return next((item for item in canaries if item["predictor"].get("name") == CANARY), None)


def _uid(canary: Object) -> str:
    return str((canary["predictor"].get("annotations") or {}).get(CANARY_ANNOTATION, ""))


def _model_of(predictor: Object) -> str:
    return str((predictor.get("annotations") or {}).get(MODEL_ANNOTATION, ""))


def _source(live: Object) -> str:
    """Return the digest of the predictor without its model."""
    predictor = copy.deepcopy(live["spec"]["predictor"])
    annotations = predictor.pop("annotations", None) or {}
    rest = {name: value for name, value in annotations.items() if name != MODEL_ANNOTATION}
    return digest_of(canonical_json([predictor, rest]).encode())[:16]
