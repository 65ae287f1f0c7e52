"""What scaling.py measures: networks, their environments, and how much data an update has."""

from __future__ import annotations

from dataclasses import dataclass

from scaling_learner import BenchmarkLearner

from rllib_multienv import AgnosticNetConfig, MultiEnvPPOConfig


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network, its environments, and how much data an update has."""

    title: str
    net: AgnosticNetConfig
    envs: tuple[str, ...]
    copies: int
    fragment: int
    epochs: int
    minibatches: int
    repeats: int

    def config(self, num_learners: int, threads: int = 1) -> MultiEnvPPOConfig:
        return (
            MultiEnvPPOConfig()
            .environment(envs=list(self.envs))
            .env_runners(
                num_env_runners=num_learners,
                num_envs_per_env_runner=self.copies,
                rollout_fragment_length=self.fragment,
            )
            .rl_module(model_config=self.net)
            .learners(num_learners=num_learners, num_cpus_per_learner=threads, learner_class=BenchmarkLearner)
            # The same fragments are learned again and again: with a real rate the policy would run away from them.
            .training(lr=1e-6, num_epochs=self.epochs, num_minibatches=self.minibatches)
            .debugging(seed=0)
        )


FOUR = ("CartPole-v1", "Acrobot-v1", "InvertedPendulum-v4", "Reacher-v4")
EIGHT = ("CartPole-v1", "LunarLander-v3", "BipedalWalker-v3", "Ant-v4", "Hopper-v4", "HalfCheetah-v4",
         "InvertedPendulum-v4", "Reacher-v4")  # fmt: skip
CASES = {
    "small": Case(
        title="A small network, `AgnosticNetConfig(d_model=32, num_transformer_layers=1)`",
        net=AgnosticNetConfig(d_model=32, num_transformer_layers=1),
        envs=FOUR,
        copies=8,
        fragment=128,
        epochs=5,
        minibatches=8,
        repeats=5,
    ),
    "paper": Case(
        title="The paper's network, `AgnosticNetConfig.paper()`",
        net=AgnosticNetConfig.paper(),
        envs=EIGHT,
        copies=2,
        fragment=64,
        epochs=2,
        minibatches=2,
        repeats=3,
    ),
}
SHORT = {
    "tiny": Case(
        title="A tiny network, to try the benchmark itself",
        net=AgnosticNetConfig(d_model=8, d_state=4, num_transformer_layers=1),
        envs=FOUR,
        copies=2,
        fragment=16,
        epochs=1,
        minibatches=2,
        repeats=2,
    )
}
