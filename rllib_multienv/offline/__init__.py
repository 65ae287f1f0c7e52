"""Data sets of recorded experience: readers, checks, transitions and replay."""

from rllib_multienv.offline.errors import DatasetError
from rllib_multienv.offline.raw import RawDataset
from rllib_multienv.offline.transitions import Transitions, build_transitions

__all__ = ["DatasetError", "RawDataset", "Transitions", "build_transitions"]
