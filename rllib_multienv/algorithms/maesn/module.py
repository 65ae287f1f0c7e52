"""MAESN's shared module: the network, latents of the tasks of training, and step sizes of latents."""

from __future__ import annotations

from rllib_multienv.inner_loop import TASK_LATENTS, StepSizes
from rllib_multienv.latent_loop import TaskLatents, prior
from rllib_multienv.modules import SharedModule
from rllib_multienv.spec import SpaceSpec


class MAESNSharedModule(SharedModule):
    """``model_config`` also has ``"learned_step_size"`` (where they start), ``"latent_size"`` and
    ``"num_train_tasks"``.
    """

    def setup(self) -> None:
        """Build the network."""
        super().setup()
        size = self.model_config["latent_size"]
        StepSizes.add_to(self.network, prior(size), self.model_config["learned_step_size"])
        latents = TaskLatents(list(self.model_config["interfaces"]), self.model_config["num_train_tasks"], size)
        self.network.add_module(TASK_LATENTS, latents)

    @property
    def latents(self) -> TaskLatents:
        """Latents of the tasks of training."""
        latents: TaskLatents = getattr(self.network, TASK_LATENTS)
        return latents

    def add_env(self, env_id: str, space_spec: SpaceSpec) -> None:
        """Make an environment known, with latents of its own."""
        super().add_env(env_id, space_spec)
        self.latents.add_env(env_id)

    def remove_env(self, env_id: str) -> None:
        """Remove an environment with its latents."""
        super().remove_env(env_id)
        self.latents.remove_env(env_id)
