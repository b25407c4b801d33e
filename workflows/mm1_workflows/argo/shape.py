"""Schema of Argo objects: the types of their fields, checked once, so that readers need no checks.

It only contains the fields that this project reads, with their types in Argo and Kubernetes; the rules decide which fields are
*allowed*. Every field that is present has a value, because :func:`without_nulls` removes empty ones.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel
from pydantic.alias_generators import to_camel

from mm1.config.resolve import complaints
from mm1.errors import ConfigurationError
from mm1_workflows.argo.document import INPUTS_ANNOTATION, Document

MAX_COMPLAINTS = 5


def without_nulls(value: Any) -> Any:
    """Return the data without fields whose value is null, which Kubernetes treats like absent fields."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def check_shape(document: Document, what: str = "not a well-formed Argo object") -> None:
    """Check that an object is a well-formed Argo object.

    Args:
        document: the object.
        what: start of the message.

    Raises:
        ConfigurationError: it is not; the message has the fields and their expected types.
    """
    cron = isinstance(document, dict) and document.get("kind") == "CronWorkflow"
    if wrong := complaints(_CronWorkflow if cron else _Workflow, document):
        lines = [f"{where}: {complaint}".removeprefix(": ") for where, complaint in wrong[:MAX_COMPLAINTS]]
        more = [f"and {len(wrong) - MAX_COMPLAINTS} more"] if len(wrong) > MAX_COMPLAINTS else []
        raise ConfigurationError(f"{what}: " + "; ".join([*lines, *more]))


def _scalar(value: Any) -> Any:
    if not isinstance(value, str | int | float):
        raise ValueError(f"expected text, a number, true or false, got {value!r}")
    return value


def _text_or_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"expected a number or text, got {value!r}")
    return value


def _annotations(value: dict[str, str]) -> dict[str, str]:
    try:
        types = json.loads(value.get(INPUTS_ANNOTATION, "{}"))
        is_valid = isinstance(types, dict) and all(map(_is_input_type, types.values()))
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError(f"{INPUTS_ANNOTATION}: expected a JSON map of inputs to types, got {value[INPUTS_ANNOTATION]!r}")
    return value


def _is_input_type(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


Scalar = Annotated[Any, AfterValidator(_scalar)]
"""The value of a parameter: Argo converts any scalar to text."""
Quantity = Annotated[Any, AfterValidator(_text_or_number)]
"""A quantity, or a number, possibly as text."""


class _Object(BaseModel, strict=True, extra="ignore", alias_generator=to_camel):
    """Part of an Argo object; undeclared fields may have any value."""


class _Parameter(_Object):
    name: str
    value: Scalar = ""
    default: Scalar = ""
    description: str = ""
    enum: list[Scalar] = []


class _Arguments(_Object):
    parameters: list[_Parameter] = []
    artifacts: list[dict[str, Any]] = []


class _Source(_Object):
    path: str = ""


class _Output(_Object):
    name: str
    value_from: _Source = _Source()


class _Artifact(_Object):
    name: str
    path: str = ""


class _Outputs(_Object):
    parameters: list[_Output] = []
    artifacts: list[_Artifact] = []


class _Task(_Object):
    name: str = ""
    template: str = ""
    arguments: _Arguments = _Arguments()
    depends: str = ""
    when: str = ""
    with_items: list[Any] = []
    with_param: str = ""


class _Dag(_Object):
    fail_fast: bool = True
    tasks: list[_Task] = []


class _Metadata(_Object):
    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: Annotated[dict[str, str], AfterValidator(_annotations)] = {}


class _Named(_Object):
    name: str


class _Key(_Named):
    key: str


class _FieldRef(_Object):
    field_path: str


class _ValueFrom(_Object):
    secret_key_ref: _Key | None = None
    config_map_key_ref: _Key | None = None
    field_ref: _FieldRef | None = None


class _Env(_Named):
    value: str = ""
    value_from: _ValueFrom = _ValueFrom()


class _EnvFrom(_Object):
    secret_ref: _Named | None = None


class _Mount(_Named):
    mount_path: str
    sub_path: str = ""


class _EmptyDir(_Object):
    medium: str = ""
    size_limit: Quantity = ""


class _Claim(_Object):
    claim_name: str


class _SecretVolume(_Object):
    secret_name: str


class _Volume(_Named):
    empty_dir: _EmptyDir = _EmptyDir()
    persistent_volume_claim: _Claim | None = None
    secret: _SecretVolume | None = None
    config_map: _Named | None = None


class _Capabilities(_Object):
    add: list[str] = []
    drop: list[str] = []


class _SecurityProfile(_Object):
    type: str = ""


class _SeLinux(_Object):
    user: str = ""
    role: str = ""
    type: str = ""


class _Windows(_Object):
    host_process: bool = False


class _SecurityContext(_Object):
    allow_privilege_escalation: bool = False
    app_armor_profile: _SecurityProfile = _SecurityProfile()
    capabilities: _Capabilities = _Capabilities()
    privileged: bool = False
    proc_mount: str = ""
    run_as_non_root: bool = False
    run_as_user: int = 0
    se_linux_options: _SeLinux = _SeLinux()
    seccomp_profile: _SecurityProfile = _SecurityProfile()
    sysctls: list[_Named] = []
    windows_options: _Windows = _Windows()


class _Port(_Object):
    host_port: int = 0


class _Host(_Object):
    host: str = ""


class _Handler(_Object):
    http_get: _Host = _Host()
    tcp_socket: _Host = _Host()


class _Resources(_Object):
    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class _Container(_Object):
    image: str = ""
    command: list[str] = []
    args: list[str] = []
    env: list[_Env] = []
    env_from: list[_EnvFrom] = []
    lifecycle: dict[str, _Handler] = {}
    liveness_probe: _Handler = _Handler()
    ports: list[_Port] = []
    readiness_probe: _Handler = _Handler()
    resources: _Resources = _Resources()
    security_context: _SecurityContext = _SecurityContext()
    startup_probe: _Handler = _Handler()
    volume_mounts: list[_Mount] = []


class _Backoff(_Object):
    duration: Quantity = ""
    factor: Quantity = 1
    cap: Quantity = ""
    max_duration: Quantity = ""


class _RetryStrategy(_Object):
    backoff: _Backoff = _Backoff()
    expression: str = ""
    limit: Quantity = 0
    retry_policy: str = ""


class _Toleration(_Object):
    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int = 0


class _Pod(_Object):
    node_selector: dict[str, str] = {}
    pod_spec_patch: str = ""
    security_context: _SecurityContext = _SecurityContext()
    service_account_name: str = ""
    tolerations: list[_Toleration] = []
    volumes: list[_Volume] = []


class _Template(_Pod):
    name: str
    active_deadline_seconds: Quantity = 0
    container: _Container = _Container()
    dag: _Dag = _Dag()
    inputs: _Arguments = _Arguments()
    metadata: _Metadata = _Metadata()
    outputs: _Outputs = _Outputs()
    retry_strategy: _RetryStrategy = _RetryStrategy()


class _TtlStrategy(_Object):
    seconds_after_completion: int = 0


class _Spec(_Pod):
    active_deadline_seconds: int = 0
    arguments: _Arguments = _Arguments()
    entrypoint: str = ""
    on_exit: str = ""
    parallelism: int = 1
    templates: list[_Template] = []
    ttl_strategy: _TtlStrategy = _TtlStrategy()


class _Workflow(_Object):
    metadata: _Metadata = _Metadata()
    spec: _Spec = _Spec()


class _CronFields(_Object):
    workflow_spec: _Spec


class _CronWorkflow(_Object):
    metadata: _Metadata = _Metadata()
    spec: _CronFields
