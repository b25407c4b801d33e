"""Validation of Kubernetes names before submission."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ValidatorFunctionWrapHandler, WrapValidator
from pydantic.alias_generators import to_camel

from mm1.config.resolve import complaints
from mm1_components.wrapper.kubernetes_fields import LabelKey, LabelValue, ObjectName
from mm1_workflows.argo.document import Document, inputs_of, parameters_of, spec_of
from mm1_workflows.argo.expressions import references
from mm1_workflows.authoring.profiles import Profile
from mm1_workflows.rules.finding import Finding

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
MAX_LABEL = 63
"""Maximum length of a label value: pods have the name of their workflow in a label."""
MAX_CRON_NAME = 52
"""Maximum length of a CronWorkflow's name: the controller appends a dash and the time of the run, ten digits."""
RANDOM_SUFFIX = 5
"""Number of characters that the API server appends to `generateName`."""
PARAMETER_NAME = re.compile(r"[-a-zA-Z0-9_]+")
RULE = "lower-case letters, digits and '-', and begin and end with a letter or digit"


def _label(text: str) -> str:
    if len(text) > MAX_LABEL or not DNS_LABEL.fullmatch(text):
        raise ValueError(f"expected a name of {RULE}, of at most {MAX_LABEL} characters, got {text!r}")
    return text


def _unless_reference(text: str, check: ValidatorFunctionWrapHandler) -> str:
    return text if references(text) else str(check(text))


_Reference = WrapValidator(_unless_reference)
"""Argo substitutes references in a template before it creates a pod."""


class _Metadata(BaseModel):
    labels: dict[LabelKey, LabelValue] = {}
    annotations: dict[LabelKey, str] = {}
    namespace: Annotated[str, AfterValidator(_label)] | None = None


class _PodMetadata(BaseModel):
    labels: dict[LabelKey, Annotated[LabelValue, _Reference]] = {}
    annotations: dict[LabelKey, str] = {}


class _Pod(BaseModel, alias_generator=to_camel):
    metadata: _PodMetadata = _PodMetadata()
    pod_metadata: _PodMetadata = _PodMetadata()
    service_account_name: Annotated[ObjectName, _Reference] | None = None


def valid_names(document: Document, profile: Profile) -> Iterator[Finding]:
    """Check rule P020."""
    for where, complaint in name_complaints(document):
        yield Finding("P020", where, complaint)


def name_complaints(document: Document) -> Iterator[tuple[str, str]]:
    """Yield the names in a workflow that Kubernetes or Argo would reject: field and error."""
    metadata, spec = document.get("metadata") or {}, spec_of(document)
    yield from _own_name(metadata, MAX_CRON_NAME if document.get("kind") == "CronWorkflow" else MAX_LABEL)
    yield from _fields("metadata", _Metadata, metadata)
    yield from _fields("spec", _Pod, spec)
    yield from _parameter_names("parameter", parameters_of(spec))
    for body in spec.get("templates") or []:
        own = str(body.get("name", ""))
        where = f"template {own}"
        if not DNS_LABEL.fullmatch(own):
            yield where, f"pods are named after templates, so the name must consist of {RULE}"
        elif len(own) > MAX_LABEL:
            yield where, f"expected a name of at most {MAX_LABEL} characters, got {len(own)}"
        yield from _fields(where, _Pod, body)
        yield from _parameter_names(f"{where}: input", inputs_of(body))
        yield from _parameter_names(f"{where}: output", (body.get("outputs") or {}).get("parameters") or [])
        yield from _parameter_names(f"{where}: artifact", (body.get("outputs") or {}).get("artifacts") or [])


def _own_name(metadata: dict[str, Any], limit: int) -> Iterator[tuple[str, str]]:
    name, stem = metadata.get("name"), metadata.get("generateName")
    if name:
        yield from (("metadata.name", complaint) for complaint in _object_name(name, name, limit))
    elif stem:
        # with the suffix, any stem has a valid end
        yield from (("metadata.generateName", text) for text in _object_name(stem, f"{stem}x", MAX_LABEL - RANDOM_SUFFIX))
    else:
        yield "metadata", "expected a name, or a generateName"


def _object_name(name: str, whole: str, limit: int) -> Iterator[str]:
    if not DNS_SUBDOMAIN.fullmatch(whole):
        yield f"expected a DNS-1123 name ({RULE}), got {name!r}"
    if len(name) > limit:
        yield f"expected at most {limit} characters, got {len(name)}: {name!r}"


def _parameter_names(what: str, parameters: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    names = [parameter["name"] for parameter in parameters]
    for name in dict.fromkeys(names):
        if not PARAMETER_NAME.fullmatch(name):
            yield f"{what} {name}", "the name must consist of letters, digits, '-' and '_'"
        elif names.count(name) > 1:
            yield f"{what} {name}", "the name is not unique"


def _fields(where: str, cls: type[BaseModel], tree: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for field, complaint in complaints(cls, tree):
        yield f"{where}.{field.removesuffix('.[key]')}", complaint
