"""Values that contradict each other or the workflow templates: one sentence with the path and the remedy, in time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.helm import Helm, HelmError

MODEL = f"s3://data/store/manifests/{'0' * 64}.json"
SERVED = {"enabled": True, "model": MODEL, "requireSignature": False, "image": "registry.example/trainer:1"}
TRAIN = {"cpu": 1, "memory": "1Gi", "nvidia.com/gpu": 8}


def retrain(**settings: Any) -> dict[str, Any]:
    return {"schedules": {"retrain": {"enabled": True, "template": "mm1-small", "arguments": {"needed": "x"}} | settings}}


def queue(**settings: Any) -> dict[str, Any]:
    return {"profile": "default", "queue": {"clusterQueue": "research"} | settings}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            retrain(schedules=["every day"]),
            r"schedules\.retrain\.schedules: expected a cron line of 5 fields .*got \"every day\"",
        ),
        (retrain(schedules=["61 3 * * *"]), r'schedules\.retrain\.schedules: "61 3 \* \* \*": minute: expected .*0 to 59'),
        (retrain(schedules=["0 0 * * 7"]), r"day of the week: expected \*, 0 to 6 or sun to sat"),
        (
            {"serving": SERVED | {"rollout": {"enabled": True}}},
            r"serving\.model: expected an empty value with serving\.rollout",
        ),
        (
            {"serving": SERVED | {"gateway": {"enabled": True}}},
            r"serving\.gateway\.parentRefs: required by serving\.gateway\.enabled: name your Gateway",
        ),
        ({"accounts": {"step": {"name": "other"}}}, r"accounts: the workflow templates of profile small run under mm1-step"),
        ({"accounts": {"rank": {"name": "mm1-step"}}}, r"accounts: expected a name of its own for each account"),
        (
            {"profile": "default", "store": {"secret": ""}},
            r"store\.secret: expected mm1-store, which the .* profile default read, .*environment_secret",
        ),
        ({"trial": {"enabled": True}, "store": {"secret": ""}}, r"store\.secret: expected a name with trial\.enabled"),
        (
            {"profile": "", "trial": {"enabled": True}, "store": {"secret": "mine"}},
            r'store\.secret: expected one of mm1-store, which the .* profile smoke read, got "mine"',
        ),
        ({"queue": {"quota": {"train-h100": TRAIN}}}, r"queue\.clusterQueue: required by queue\.quota"),
        ({"queue": {"clusterQueue": "mine", "cohort": "all"}}, r"queue\.cohort: has no effect without queue\.quota"),
        (queue(quota={"train": TRAIN}), r"queue\.quota\.train: profile default trains in no pool .*only in: .*train-h100"),
        (
            queue(quota={"train-h100": {"cpu": 1, "memory": 1}}),
            r"queue\.quota\.train-h100: expected a quota of nvidia\.com/gpu",
        ),
        (
            queue(quota={"eval-l40s": TRAIN, "train-h100": TRAIN | {"rdma/hca": 8}}),
            r"queue\.quota\.train-h100: expected the resources of the other pools .*set a quota of 0",
        ),
        (
            queue(quota={"train-h100": TRAIN | {"cpu": {"nominalQuota": 1, "borrowingLimit": 1}}}),
            r"queue\.cohort: required by the limits of queue\.quota\.train-h100\.cpu",
        ),
        (
            {
                "profile": "default",
                "monitoring": {"podMonitor": {"enabled": True}},
                "networkPolicy": {"monitoring": {"port": 1}},
            },
            r"networkPolicy\.monitoring\.port: expected 9464, .*got 1: set it to the profile's metrics_port",
        ),
    ],
)
def test_a_contradiction_is_refused_with_the_path_and_the_remedy(newest: Helm, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HelmError, match=rf"execution error at \([^)]*\): {sentence}|{sentence}") as refused:
        newest.text({"profile": "small"} | values)
    [line] = [line for line in str(refused.value).splitlines() if line.startswith("Error:")]
    assert len(line) < 420, "one sentence"


@pytest.mark.parametrize("line", ["0 3 * * 6", "*/15 0-6,22 ? JAN-mar mon", "@daily", "@every 1h30m", "0 0 31 12 0"])
def test_a_cron_line_is_taken(newest: Helm, line: str) -> None:
    assert f"- {line}" in newest.text({"profile": "small"} | retrain(schedules=[line])).replace("'", "")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"servin": {}}, "additional properties 'servin' not allowed"),
        ({"serving": {"enabeld": True}}, "at '/serving': additional properties 'enabeld' not allowed"),
        ({"serving": {"replicas": "two"}}, "at '/serving/replicas': got string, want integer"),
        ({"store": {"secret": "has_underscore"}}, "at '/store/secret': 'has_underscore' does not match pattern"),
    ],
)
def test_a_wrong_name_or_type_is_refused_by_its_path(both: Helm, values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(HelmError) as refused:
        both.text(values)
    assert [line for line in str(refused.value).splitlines() if line.startswith("- at")] == [
        line for line in str(refused.value).splitlines() if complaint in line
    ], "one complaint"
