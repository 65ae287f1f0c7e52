"""Stable-Baselines3's PPO on one environment, as a competitor of benchmarks/online_ppo.py.

It is no dependency of this package. Version 2.9.2 needs nothing that contradicts it (``pip install --dry-run`` beside
Ray 2.60, PyTorch 2.13 and Gymnasium 1.2.2 would add that one package), but an environment of its own leaves ours as
it is: ``pip install stable-baselines3==2.9.2 "torch>=2.13,<2.14" "gymnasium[mujoco]==1.2.2" mujoco==3.3.0``.

Advantages are standardised by minibatch, as it always does.
"""

from __future__ import annotations

import gymnasium as gym
import stable_baselines3
import torch
from competing import compete
from settings import CLIP, GAMMA, GRADIENT_CLIP, LAMBDA, LEARNING_RATE, VALUE_COEFFICIENT, read_command_line
from stable_baselines3.common.env_util import make_vec_env


def main() -> None:
    setting, threads = read_command_line()
    torch.set_num_threads(threads)
    model = stable_baselines3.PPO(
        "MlpPolicy",
        make_vec_env(setting.env, n_envs=setting.copies, seed=0),
        learning_rate=LEARNING_RATE,
        n_steps=setting.steps,
        batch_size=setting.minibatch,
        n_epochs=setting.epochs,
        gamma=GAMMA,
        gae_lambda=LAMBDA,
        clip_range=CLIP,
        ent_coef=0.0,
        vf_coef=VALUE_COEFFICIENT,
        max_grad_norm=GRADIENT_CLIP,
        policy_kwargs={
            "net_arch": {"pi": list(setting.hidden), "vf": list(setting.hidden)},
            "activation_fn": torch.nn.Tanh,
        },
        device="cpu",
        seed=0,
        verbose=0,
    )

    def iterate() -> int:
        before = model.num_timesteps
        model.learn(setting.rows, log_interval=None, reset_num_timesteps=False)
        return model.num_timesteps - before

    versions = {
        "stable-baselines3": stable_baselines3.__version__,
        "gymnasium": gym.__version__,
        "torch": torch.__version__,
    }
    compete(iterate, versions)


if __name__ == "__main__":
    main()
