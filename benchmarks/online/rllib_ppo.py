"""RLlib's own PPO on one environment (new API stack), as a competitor of benchmarks/online_ppo.py.

Runner and learner are in this process. RLlib adds a row to every episode chunk to bootstrap from, so that an iteration
may have a minibatch more per epoch than the others'; the table shows it.
"""

from __future__ import annotations

import gymnasium as gym
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from rllib_iteration import compete_in_ray
from settings import CLIP, GAMMA, GRADIENT_CLIP, LAMBDA, LEARNING_RATE, VALUE_COEFFICIENT, Setting


def configure(setting: Setting) -> PPOConfig:
    """The configuration for a setting."""
    env = gym.make(setting.env)
    continuous = isinstance(env.action_space, gym.spaces.Box)
    env.close()
    return (
        PPOConfig()
        .environment(setting.env)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=setting.copies, rollout_fragment_length=setting.steps)
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=list(setting.hidden),
                fcnet_activation="tanh",
                vf_share_layers=False,
                free_log_std=continuous,  # it refuses this for discrete actions
            )
        )
        .learners(num_learners=0)
        .training(
            lr=LEARNING_RATE,
            gamma=GAMMA,
            lambda_=LAMBDA,
            clip_param=CLIP,
            vf_clip_param=float("inf"),
            vf_loss_coeff=VALUE_COEFFICIENT,
            entropy_coeff=0.0,
            use_kl_loss=False,
            grad_clip=GRADIENT_CLIP,
            grad_clip_by="global_norm",
            num_epochs=setting.epochs,
            minibatch_size=setting.minibatch,
            train_batch_size_per_learner=setting.rows,
        )
        .debugging(seed=0, log_level="ERROR")
    )


def main() -> None:
    compete_in_ray(configure)


if __name__ == "__main__":
    main()
