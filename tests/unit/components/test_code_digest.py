"""The code digest covers what a step runs, and nothing else."""

from mm1_components.wrapper.cache import import_closure


def test_closure_follows_imports_through_this_project():
    closure = import_closure("mm1_components.wrapper.execute")
    assert {"mm1_components.wrapper.execute", "mm1.manifests", "mm1.store.base", "mm1.errors"} <= set(closure)
    assert all(path.is_file() for path in closure.values())


def test_closure_follows_imports_inside_functions():
    assert {"mm1.store.s3"} <= set(import_closure("mm1.store.open"))


def test_what_is_not_imported_is_not_in_it():
    assert "mm1_components.wrapper.execute" not in import_closure("mm1.manifests")
    assert {name.partition(".")[0] for name in import_closure("mm1.manifests")} == {"mm1"}


def test_a_step_of_one_s_own_has_the_files_next_to_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_step_of_a_test.py").write_text("import json, helper_of_a_test, torch\nimport mm1.errors.ending\n")
    (tmp_path / "helper_of_a_test.py").write_text("")
    (tmp_path / "own_package_of_a_test").mkdir()
    (tmp_path / "own_package_of_a_test/step.py").write_text("from . import other\nimport helper_of_a_test\n")
    (tmp_path / "own_package_of_a_test/other.py").write_text("")
    closure = import_closure("own_step_of_a_test")
    assert {name for name in closure if not name.startswith("mm1")} == {"own_step_of_a_test", "helper_of_a_test"}
    assert "mm1.errors.ending" in closure
    closure = import_closure("own_package_of_a_test.step")
    assert set(closure) == {"own_package_of_a_test.step", "own_package_of_a_test.other"}
