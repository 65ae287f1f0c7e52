"""Data sets of recorded experience: formats, checks, transitions, replay stores and recording."""

from rllib_multienv.offline.raw import DatasetError, RawDataset
from rllib_multienv.offline.transitions import Transitions, build_transitions

__all__ = ["DatasetError", "RawDataset", "Transitions", "build_transitions"]
