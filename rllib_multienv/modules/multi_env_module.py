"""The MultiRLModule of an agent: the shared module, and a view of it for each environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import ValueFunctionAPI
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule, MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModule, RLModuleSpec
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule

from rllib_multienv.modules.shared_module import SharedModule
from rllib_multienv.nets import distribution_for
from rllib_multienv.spec import SpaceSpec

#: ModuleID of the module that owns every parameter.
SHARED_MODULE = "shared"


class EnvView(TorchRLModule, ValueFunctionAPI):
    """One environment's view of the shared module: spaces and action distribution, no parameters.

    It behaves like a single-environment RLModule: ``algo.get_module("CartPole-v1").forward_inference({"obs": ...})``.
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
        """Values [B] of the rows ``batch["obs"]`` [B, width]."""
        (shared,) = self._shared
        return shared.compute_values({self.env_id: {Columns.OBS: batch[Columns.OBS]}})[self.env_id]

    def get_inference_action_dist_cls(self) -> Any:
        """Of the environment's actions, in the form of their row (see `ActionRow`)."""
        return self.action_dist_cls


class MultiEnvModule(MultiRLModule):
    """Hands batches of all environments to the shared module in one call."""

    def setup(self) -> None:
        """Build the shared module and attach a view of it for every environment."""
        super().setup()
        for module_id, module in self._rl_modules.items():
            if module_id != SHARED_MODULE:
                module.attach(self.shared)

    @property
    def shared(self) -> SharedModule:
        """The module that owns every parameter."""
        return self._rl_modules[SHARED_MODULE].unwrapped()

    def add_module(self, module_id: str, module: RLModule, *, override: bool = False) -> None:
        """Add (the view of) an environment."""
        super().add_module(module_id, module, override=override)
        if isinstance(module, EnvView):
            module.attach(self.shared)

    def change_environments(self, space_specs: Mapping[str, SpaceSpec]) -> None:
        """Add and remove environments; those that stay are not touched, unless they were measured otherwise."""
        known = self.shared.model_config["interfaces"]
        for env_id in [env_id for env_id in self._rl_modules if env_id != SHARED_MODULE]:
            if env_id not in space_specs:
                self.remove_module(env_id)
                self.shared.remove_env(env_id)
        for env_id, space_spec in space_specs.items():
            if env_id not in self._rl_modules:
                self.shared.add_env(env_id, space_spec)
                self.add_module(env_id, env_view_spec(space_spec, inference_only=self.inference_only).build())
            elif space_spec != known[env_id]:
                self.shared.remove_env(env_id)
                self.shared.add_env(env_id, space_spec)
        for model_config in (self.shared.model_config, self.rl_module_specs[SHARED_MODULE].model_config):
            model_config["interfaces"] = dict(space_specs)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self.shared.forward_inference(batch, **kwargs)

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self.shared.forward_inference(batch, **kwargs)

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self.shared.forward_exploration(batch, **kwargs)

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self.shared.forward_train(batch, **kwargs)


def env_view_spec(space_spec: SpaceSpec, *, inference_only: bool = False) -> RLModuleSpec:
    """Specification of one environment's view."""
    return RLModuleSpec(
        module_class=EnvView,
        observation_space=space_spec.observation_space,
        action_space=space_spec.action_space,
        inference_only=inference_only,
        model_config={"env_id": space_spec.env_id, "interface": space_spec},
    )


def multi_env_module_spec(
    network: Mapping[str, Any],
    space_specs: Mapping[str, SpaceSpec],
    *,
    inference_only: bool = False,
    shared_module_class: type[SharedModule] = SharedModule,
) -> MultiRLModuleSpec:
    """Specification of the module of an agent.

    Args:
        network: The network configuration as a dictionary (its ``to_dict()``).
        space_specs: The environments, by env id.
        inference_only: Whether to leave out the critic.
        shared_module_class: Class of the module that owns the parameters.
    """
    # RLlib asks every specification for spaces; the shared module does not use them.
    no_space = gym.spaces.Box(-1.0, 1.0, (1,))
    shared = RLModuleSpec(
        module_class=shared_module_class,
        observation_space=no_space,
        action_space=no_space,
        inference_only=inference_only,
        model_config={"network": dict(network), "interfaces": dict(space_specs)},
    )
    views = {env_id: env_view_spec(spec, inference_only=inference_only) for env_id, spec in space_specs.items()}
    return MultiRLModuleSpec(
        multi_rl_module_class=MultiEnvModule,
        rl_module_specs={SHARED_MODULE: shared, **views},
        inference_only=inference_only,
    )
