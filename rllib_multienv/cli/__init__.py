"""The command line, `multienv`."""

from rllib_multienv.cli.app import app

__all__ = ["app"]
