"""Names of run records: different for different tasks, also for long ones."""

from mm1.lineage.records import record_key


def test_long_names_that_begin_alike_have_different_records():
    names = [f"train-{'a' * 150}.s{seed}" for seed in range(3)]
    keys = {record_key("r", name) for name in names}
    assert len(keys) == 3 and max(map(len, keys)) < 160
    assert record_key("r", "train-a.s0") == "runs/r/train-a.s0.json"
