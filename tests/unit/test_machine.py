"""What a process may use: of its cgroup rather than of its machine; and how it ends with its parent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mm1 import machine


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "1600000 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_cores_are_those_of_the_quota(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(machine, "affinity", lambda: set(range(8)))
    write(tmp_path, files)
    assert machine.cores() == cores


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "1048576"}, 1 << 20),
        ({"memory/memory.limit_in_bytes": "2097152"}, 1 << 21),
        ({"memory.max": "max"}, None),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ({}, None),
    ],
)
def test_memory_is_that_of_the_limit(tmp_path, monkeypatch, files, limit):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    write(tmp_path, files)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert machine.memory_bytes() == (limit or total)


@pytest.mark.parametrize("name", ["memory.events", "memory/memory.oom_control"])
def test_kills_of_the_kernel_are_counted(tmp_path, monkeypatch, name):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.oom_kills() == 0
    write(tmp_path, {name: "low 0\noom 2\noom_kill 3"})
    assert machine.oom_kills() == 3


CHILD = """
import os, sys, time
from mm1 import machine
machine.PARENT_CHECK_S = 0.02
parent = os.getpid()
child = os.fork()
if not child:
    {end}
    print(os.getpid(), flush=True)
    time.sleep(60)
sys.stdin.read()
"""


ORPHAN = """
import os, sys, time
from mm1 import machine
starter = os.getpid()
launcher = os.fork()
if not launcher:
    launcher = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == launcher:  # until it is gone
        time.sleep(0.01)
    {end}
    print("still here", flush=True)
    os._exit(0)
os.waitpid(launcher, 0)
"""


@pytest.mark.parametrize("end", ["machine.die_with_parent(parent=launcher)", "machine.die_with_launcher(starter)"])
def test_a_child_whose_parent_is_gone_before_it_starts_exits_at_once(end):
    done = subprocess.run([sys.executable, "-c", ORPHAN.format(end=end)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_a_child_of_a_launcher_that_is_running_goes_on():
    program = "import os; from mm1 import machine; machine.die_with_launcher({}); print('runs')"
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {program.format(os.getpid())!r}])"
    assert subprocess.check_output([sys.executable, "-c", launcher], text=True) == "runs\n"


@pytest.mark.parametrize("end", ["machine.die_with_parent()", "machine.exit_with_parent(parent)"])
def test_a_child_ends_with_its_parent_however_that_ends(end):
    parent = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(end=end)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    assert parent.stdout.read() == ""  # the pipe is closed: the child is gone too
    parent.communicate()
