"""The RLModule that owns all parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor

from rllib_multienv.nets import ActorCritic, Outputs, Part, net_config_from_dict
from rllib_multienv.rollout import FIRST, PRESENT, VALID
from rllib_multienv.spec import SpaceSpec

VF_LOGITS = "vf_logits"


class SharedModule(TorchRLModule, InferenceOnlyAPI):
    """Holds the network of all environments and runs it once for all of them.

    Batches are keyed by environment, ``{env_id: {"obs": [B_e, width]}}``, not by column as an RLModule's usually are:
    packing happens inside the network. A network with memory also reads ``"state_in"`` [B_e, D] and gives
    ``"state_out"``; without ``"state_in"`` episodes begin. Sequences are the rows of ``"first"`` bool [T, B], and of
    ``"valid"`` where not every time step has one.

    Dropout acts in ``forward_train`` only, because RLlib's torch modules switch to evaluation mode for the other
    forwards (docs/deviations.md, 12). ``model_config`` carries ``"network"`` (the network's configuration as a
    dictionary) and ``"interfaces"`` (``{env_id: SpaceSpec}``).
    """

    network: ActorCritic

    def setup(self) -> None:
        """Build the network, for inference without the critic."""
        config = net_config_from_dict(self.model_config["network"])
        self.network = config.build(self.model_config["interfaces"])
        config.check_memory(self.network)
        self._has_dropout = getattr(config, "dropout", 0.0) > 0.0
        if self.inference_only:
            # RLlib 2.60 deletes nested attributes from the wrong object, so it is done here.
            self.network.drop_critic()

    def train(self, mode: bool = True) -> SharedModule:
        """Switch to training (or evaluation) mode, if that is not the mode already.

        RLlib asks for a mode at every forward, and setting it in every layer takes as long as a small network.
        """
        return self if mode == self.training else super().train(mode)

    def add_env(self, env_id: str, space_spec: SpaceSpec) -> None:
        """Make an environment known to all networks."""
        self.network.add_env(env_id, space_spec)

    def remove_env(self, env_id: str) -> None:
        """Remove an environment from all networks."""
        self.network.remove_env(env_id)

    def get_non_inference_attributes(self) -> list[str]:
        """The parts that only values need: runners neither keep nor receive them."""
        return [f"network.{name}" for name in self.network.critic_only]

    def initial_state(self) -> np.ndarray | None:
        """The memory's state [D] at the beginning of an episode; None without memory."""
        memory = self.network.memory
        return None if memory is None else memory.initial_state(1)[0].cpu().numpy()

    def _run(self, batch: Mapping[str, Any], *parts: Part, **options: Any) -> Outputs:
        obs, state, first, valid, present = (
            {env_id: columns[key] for env_id, columns in batch.items() if key in columns}
            for key in (Columns.OBS, Columns.STATE_IN, FIRST, VALID, PRESENT)
        )
        outputs: Outputs = self.network(obs, state, first or None, valid, parts=parts, present=present, **options)
        return outputs

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Distribution inputs of every environment: ``{env_id: {"action_dist_inputs": [B_e, num_inputs]}}``."""
        outputs = self._run(batch, "actor")
        result: dict[str, Any] = {e: {Columns.ACTION_DIST_INPUTS: inputs} for e, inputs in outputs.policy.items()}
        for env_id, state in outputs.state.items():
            result[env_id][Columns.STATE_OUT] = state
        return result

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """As :meth:`_forward`, with value predictions ``"vf_preds"`` [B_e], and ``"vf_logits"`` [B_e, K] over bins."""
        outputs = self._run(batch, "actor", "critic")
        values = self._values(outputs)
        result = {e: {Columns.ACTION_DIST_INPUTS: outputs.policy[e], Columns.VF_PREDS: values[e]} for e in batch}
        if self.network.value_bins is not None:
            for env_id, columns in result.items():
                columns[VF_LOGITS] = outputs.values[env_id]
        for env_id, extra in outputs.extra.items():
            result[env_id] |= extra
        return result

    def _values(self, outputs: Outputs) -> dict[str, Tensor]:
        """Values [B_e] in the unit of rewards."""
        return self.network.read_values(outputs.values)

    @torch.no_grad()
    def compute_values(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Values of every environment's observations, without gradients or dropout: ``{env_id: [B_e]}``."""
        # Changing the mode of every layer takes as long as a small network.
        with_dropout = self.training and self._has_dropout
        if with_dropout:
            self.eval()
        try:
            return self._values(self._run(batch, "critic"))
        finally:
            if with_dropout:
                self.train()
