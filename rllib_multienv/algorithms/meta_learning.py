"""Settings of meta-learning: RL² is PPO with trials, memory and what happened in the last step as inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from rllib_multienv.algorithms.on_policy import OnPolicyConfigMixin
from rllib_multienv.algorithms.settings import Attribute, Converted, Count, settings, strings
from rllib_multienv.nets import NetConfig
from rllib_multienv.spaces.previous import INPUTS
from rllib_multienv.spec import EnvSpec


class MetaLearningMixin(OnPolicyConfigMixin):
    """Settings of on-policy algorithms whose agents adapt to a new task within a trial."""

    @settings
    def meta_learning(
        self,
        method: Annotated[Literal["rl2"] | None, Attribute("meta_method")] = None,
        *,
        trial_episodes: Annotated[Count, Attribute("meta_trial_episodes")] = 2,
        envs: Annotated[Any, Converted(strings), Attribute("meta_envs")] = (),
    ) -> None:
        """Let the agent adapt to a new task within a trial.

        Args:
            method: ``"rl2"``: RL² (Duan et al. 2016, arXiv 1611.02779). Environments get trials, and the network a
                memory (``"gru"``) and the last action, reward and end of an episode as inputs, unless
                ``rl_module(model_config=...)`` sets its ``memory`` or ``inputs``. None: nothing of it.
            trial_episodes: Episodes of a trial, where `EnvSpec.trial_episodes` does not say.
            envs: Ids of the environments that have trials; none: all.
        """

    @property
    def env_specs(self) -> tuple[EnvSpec, ...]:
        """The environments of the run, with their trials."""
        return tuple(self._in_trials(spec) for spec in super().env_specs)

    def _in_trials(self, spec: EnvSpec) -> EnvSpec:
        chosen = self.meta_method is not None and (not self.meta_envs or spec.id in self.meta_envs)
        if not chosen or spec.trial_episodes is not None:
            return spec
        return replace(spec, trial_episodes=self.meta_trial_episodes)

    @property
    def network_config(self) -> NetConfig:
        """The network's configuration, with what the method needs."""
        network = super().network_config
        if self.meta_method is None:
            return network
        return replace(network, memory=network.memory or "gru", inputs=network.inputs or INPUTS)

    def validate(self) -> None:
        """Check all settings.

        Raises:
            ValueError: Names the setting, its value, and what would be right.
        """
        self.validate_env_ids("meta_learning(envs=...)", self.meta_envs, [spec.id for spec in super().env_specs])
        super().validate()
