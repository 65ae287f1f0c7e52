"""What RLlib sees under an environment's ModuleID."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import ValueFunctionAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule

from rllib_multienv.modules.shared_module import SharedModule
from rllib_multienv.nets import distribution_for


class EnvView(TorchRLModule, ValueFunctionAPI):
    """One environment's view of the shared module: spaces and action distribution, no parameters.

    It behaves as a single-environment RLModule (``algo.get_module("CartPole-v1").forward_inference({"obs": ...})``)
    by asking the shared module for its own environment alone.
    """

    def setup(self) -> None:
        """Nothing to build; :class:`MultiEnvModule` attaches the shared module."""
        self.env_id: str = self.model_config["env_id"]
        self.action_dist_cls = distribution_for(self.model_config["interface"])
        self._shared: tuple[SharedModule, ...] = ()

    def attach(self, shared: SharedModule) -> None:
        """Set the module that owns the parameters; in a tuple, so that torch does not count it as a child."""
        self._shared = (shared,)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        (shared,) = self._shared
        return shared.forward_inference({self.env_id: batch})[self.env_id]

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        (shared,) = self._shared
        return shared.forward_train({self.env_id: batch})[self.env_id]

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> torch.Tensor:
        """Values [B] of ``batch["obs"]`` [B, I]."""
        (shared,) = self._shared
        return shared.compute_values({self.env_id: {Columns.OBS: batch[Columns.OBS]}})[self.env_id]

    def get_inference_action_dist_cls(self) -> Any:
        """Categorical over the actions, or a diagonal Gaussian over actions in [-1, 1]."""
        return self.action_dist_cls
