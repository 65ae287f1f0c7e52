"""Experiments: variants of an agent x seeds x phases, each run a run of `multienv train`."""
