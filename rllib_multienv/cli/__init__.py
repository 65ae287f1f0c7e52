"""The command line, `multienv`. Commands import what they need when they run: `--help` is quick."""

from rllib_multienv.cli.app import app

__all__ = ["app"]
