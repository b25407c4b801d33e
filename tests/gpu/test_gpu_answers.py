"""Generation, evaluation and serving on a GPU."""


def test_generation_and_likelihoods(checks):
    checks.check_generation("cuda")


def test_evaluation(checks, tmp_path):
    checks.check_evaluation(tmp_path)


def test_serving(checks):
    checks.check_serving()
