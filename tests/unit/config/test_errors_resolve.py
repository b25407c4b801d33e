"""Overrides, canonical text, outcome classes."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1.config.base import Config
from mm1.config.resolve import canonical_json, resolve, suggest
from mm1.errors import BY_OUTCOME, SAVED, ConfigurationError, NetworkError, Outcome, from_os_error


class Optim(Config):
    lr: float = 1e-3
    name: str = "adamw"


class Run(Config):
    steps: int = 10
    optim: Optim = Optim()
    frozen: tuple[str, ...] = ()
    decay: Optim | None = None


def test_override_reaches_a_nested_field_and_leaves_the_original():
    run = Run()
    changed = resolve(run, ["optim.lr=5e-4", "steps=20", "optim.name=muon", 'frozen=["vision"]'])
    assert (changed.optim.lr, changed.steps, changed.optim.name, changed.frozen) == (5e-4, 20, "muon", ("vision",))
    assert run == Run()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.llr=1", ["optim", "llr", "did you mean", "lr"]),
        ("steps=many", ["steps", "integer", "many"]),
        ("steps", ["path=value"]),
        ("steps.x=1", ["steps is a value"]),
        ("decay.x=1", ["has no decay"]),
    ],
)
def test_wrong_override_names_field_and_remedy(override, words):
    with pytest.raises(ConfigurationError) as caught:
        resolve(Run(), [override])
    assert all(word in str(caught.value) for word in words)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.booleans(), max_size=6))
def test_canonical_json_does_not_depend_on_order(value):
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


def test_canonical_json_refuses_nan():
    with pytest.raises(ValueError):
        canonical_json({"x": float("nan")})


def test_exit_codes_are_those_of_the_contract():
    assert {outcome.name: int(outcome) for outcome in Outcome if outcome >= 80} == {
        "CONFIGURATION": 80, "DATA": 81, "DIVERGED": 82, "OUT_OF_MEMORY": 83,
        "NETWORK": 84, "HARDWARE": 85, "CHECKPOINT": 86, "PREEMPTED": 87, "BUDGET": 88,
    }  # fmt: skip
    assert set(BY_OUTCOME) == {outcome for outcome in Outcome if outcome >= 80}
    assert Outcome.from_exit_code(137) is Outcome.UNHANDLED
    assert not Outcome.CONFIGURATION.retried and Outcome.NETWORK.retried
    assert Outcome.PREEMPTED.retried and not Outcome.BUDGET.retried and Outcome.BUDGET in SAVED


@pytest.mark.parametrize(
    ("number", "cls"), [(errno.ENOSPC, NetworkError), (errno.ENOENT, ConfigurationError), (errno.EACCES, ConfigurationError)]
)
def test_os_errors_get_a_class_and_name_the_file(number, cls):
    error = from_os_error(OSError(number, "said so", "/some/file"))
    assert isinstance(error, cls) and "/some/file" in str(error)


def test_of_two_files_the_written_one_is_named():
    assert "/full/disk" in str(from_os_error(OSError(errno.ENOSPC, "full", "/source", None, "/full/disk")))


def test_suggest_lists_what_is_known_when_nothing_is_near():
    assert suggest("zzz", ["alpha", "beta"]) == "known: alpha, beta"
