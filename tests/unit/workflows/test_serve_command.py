"""``mm1 serve`` passes its options to the server, which takes all of them, with bounded threads."""

from __future__ import annotations

import os
from dataclasses import fields

import pytest

from mm1 import machine
from mm1.serve.__main__ import _parser
from mm1_workflows.cli.commands.serve import Command

GIVEN = {
    **{"host": "::1", "port": 0, "name": "n", "device": "cpu", "dtype": "float32", "verify_key": "k.pub"},
    **{
        "require_signature": True,
        "max_tokens": 9,
        "max_images": 0,
        "max_tiles": 16,
        "max_running": 1,
        "max_waiting": 1,
        "drain": 0,
    },
    **{"api_key_file": "keys", "cors_origins": "*", "image_hosts": "*.a.org"},
}


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Command line and environment of the server that would replace this process."""
    started = {}
    monkeypatch.setattr(os, "execve", lambda program, argv, env: started.update(argv=argv, env=env))

    def start(**options):
        Command(model="folder", store=str(tmp_path), **options)()
        return started

    return start


def test_every_option_reaches_the_server(started):
    assert set(GIVEN) | {"model", "store"} == {field.name for field in fields(Command)}
    options = vars(_parser().parse_args(started(**GIVEN)["argv"][3:]))
    assert {name: options[name] for name in GIVEN} == GIVEN and options["model"] == "folder"


def test_options_that_are_not_given_are_left_to_the_server(started):
    argv = started()["argv"]
    assert not [option for option in argv if option.startswith(("--max", "--drain", "--require", "--api"))]


def test_threads_are_as_many_as_cores_and_stop_spinning(started, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setattr(machine, "cores", lambda: 3)  # of a container's quota, on a larger node
    env = started()["env"]
    assert env["GOMP_SPINCOUNT"] == "5000" and env["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert started()["env"]["OMP_NUM_THREADS"] == "1"
