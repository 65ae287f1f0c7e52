"""MultiEnvPPO of this package on one environment, as a competitor of benchmarks/online_ppo.py.

Runner and learner are in this process. The environments are stepped by the package's own "sync" backend, as EnvPool
would not be the same environment that the others have.
"""

from __future__ import annotations

from rllib_iteration import compete_in_ray
from settings import CLIP, GAMMA, GRADIENT_CLIP, LAMBDA, LEARNING_RATE, VALUE_COEFFICIENT, Setting

from rllib_multienv import EnvSpec, MLPNetConfig, MultiEnvPPOConfig


def configure(setting: Setting) -> MultiEnvPPOConfig:
    """The configuration for a setting."""
    return (
        MultiEnvPPOConfig()
        .environment(envs=[EnvSpec(setting.env, backend="sync")])
        .env_runners(num_env_runners=0, num_envs_per_env_runner=setting.copies, rollout_fragment_length=setting.steps)
        .rl_module(model_config=MLPNetConfig(hidden=setting.hidden, activation="tanh"))
        .learners(num_learners=0)
        .training(
            lr=LEARNING_RATE,
            gamma=GAMMA,
            lambda_=LAMBDA,
            clip_param=CLIP,
            vf_clip_param=None,
            vf_loss_coeff=2 * VALUE_COEFFICIENT,  # of half the mean squared error
            entropy_coeff=0.0,
            grad_clip=GRADIENT_CLIP,
            num_epochs=setting.epochs,
            num_minibatches=setting.rows // setting.minibatch,
            normalize_obs=False,
            normalize_rewards=False,
        )
        .debugging(seed=0)
    )


def main() -> None:
    compete_in_ray(configure)


if __name__ == "__main__":
    main()
