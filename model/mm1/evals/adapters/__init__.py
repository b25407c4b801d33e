"""Other evaluation harnesses: our tasks and our models in lm-evaluation-harness and in lmms-eval, both optional."""
