"""Command line of lm-evaluation-harness with the model class ``mm1``: ``python -m mm1.evals.adapters run --model mm1 ...``."""

from __future__ import annotations


def main() -> None:
    """Register the class and run the command line."""
    from lm_eval._cli.harness import HarnessCLI

    import mm1.evals.adapters.lm_eval  # noqa: F401

    cli = HarnessCLI()
    cli.execute(cli.parse_args())


if __name__ == "__main__":
    main()
