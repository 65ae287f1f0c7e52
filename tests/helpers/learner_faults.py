"""A learner that dies or sleeps where a file says so, and a callback that notes from where a run goes on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist
from ray.rllib.callbacks.callbacks import RLlibCallback

from rllib_multienv import MultiEnvPPOConfig
from rllib_multienv.algorithms.ppo.learner import MultiEnvPPOLearner
from rllib_multienv.learners import LearnerHook


class Fault(LearnerHook):
    """Removes the file `<fault>_<update>_<learner>` if there is one, and then `die`s, `sleep`s or `raise`s."""

    def before_steps(self, learner: Any, batch: Any) -> None:
        folder = Path(learner.config.learner_config_dict["faults"])
        for path in folder.glob(f"*_{learner.num_updates}_{dist.get_rank()}"):
            path.unlink()
            if path.name.startswith("die"):
                os.kill(os.getpid(), signal.SIGKILL)
            if path.name.startswith("raise"):
                raise ZeroDivisionError("no rows")
            time.sleep(600)


class FaultyLearner(MultiEnvPPOLearner):
    def make_hooks(self) -> list[LearnerHook]:
        return [*super().make_hooks(), Fault()]


class NoteRestarts(RLlibCallback):
    def on_checkpoint_loaded(self, *, algorithm: Any, **kwargs: Any) -> None:
        with open(Path(algorithm.config.learner_config_dict["faults"]) / "restarts", "a") as file:
            file.write(f"{algorithm.iteration} ")


def with_faults(config: MultiEnvPPOConfig, folder: Path, *faults: str) -> MultiEnvPPOConfig:
    """Two learners with these faults."""
    for fault in faults:
        (folder / fault).touch()
    return config.learners(
        num_learners=2, learner_class=FaultyLearner, learner_config_dict={"faults": str(folder)}
    ).callbacks(NoteRestarts)
