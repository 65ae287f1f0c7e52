"""The folder of a run of `multienv train`, and resuming a run from it."""
