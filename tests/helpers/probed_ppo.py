"""An algorithm that reports what its learner uses, and with which weights it goes on from a checkpoint."""

from __future__ import annotations

import hashlib
from typing import Any

from ray.rllib.callbacks.callbacks import RLlibCallback

from rllib_multienv import MultiEnvPPO, MultiEnvPPOConfig


def fingerprint(algorithm: Any) -> str:
    """Equal for equal weights of the learner's network, bit for bit."""
    digest = hashlib.sha256()
    for module, arrays in sorted(algorithm.learner_group.get_weights().items()):
        for name, array in sorted(arrays.items()):
            digest.update(f"{module}/{name}".encode() + array.tobytes())
    return digest.hexdigest()


def loss_weights(algorithm: Any) -> dict[str, float]:
    """How much each environment's loss counts for the learner."""
    weights = algorithm.learner_group._learner.config.env_loss_weights
    return {spec.id: float(weights.get(spec.id, 1.0)) for spec in algorithm.config.env_specs}


class Probe(RLlibCallback):
    """Adds to every result the loss weights and the network's fingerprint, also that of the checkpoint loaded last."""

    def __init__(self) -> None:
        super().__init__()
        self._loaded = ""

    def on_checkpoint_loaded(self, *, algorithm: Any, **kwargs: Any) -> None:
        self._loaded = fingerprint(algorithm)

    def on_train_result(self, *, algorithm: Any, result: dict[str, Any], **kwargs: Any) -> None:
        result["loss_weights"] = loss_weights(algorithm)
        result["fingerprint"] = fingerprint(algorithm)
        result["loaded"] = self._loaded
        self._loaded = ""


class ProbedPPO(MultiEnvPPO):
    """`MultiEnvPPO` with the callback above; for files that name it after `tune.register_trainable`."""

    @classmethod
    def get_default_config(cls) -> MultiEnvPPOConfig:
        return MultiEnvPPOConfig(algo_class=cls).callbacks(Probe)
