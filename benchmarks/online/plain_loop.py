"""PPO in a single file, as lean as one would write it for one environment: what generality is measured against.

    python benchmarks/online/plain_loop.py '{"env": "CartPole-v1", "copies": 8, "steps": 128, "minibatch": 128,
        "epochs": 4, "hidden": [64, 64]}'

Started so, it waits for numbers of iterations on its standard input (benchmarks/online_ppo.py). Gymnasium's
SyncVectorEnv; the values of a whole iteration in one forward; fused Adam; log probabilities without
torch.distributions. A time limit is no terminal state: the value of the true last observation is added to the reward.
"""

from __future__ import annotations

import math
from collections import deque

import gymnasium as gym
import numpy as np
import torch
from competing import compete
from gymnasium.vector import AutoresetMode
from settings import CLIP, GAMMA, GRADIENT_CLIP, LAMBDA, LEARNING_RATE, VALUE_COEFFICIENT, Setting, read_command_line
from torch import Tensor, nn


def mlp(sizes: list[int], last_gain: float) -> nn.Sequential:
    """Linear layers with tanh between them, orthogonal weights, zero biases."""
    layers: list[nn.Module] = []
    for index in range(len(sizes) - 1):
        linear = nn.Linear(sizes[index], sizes[index + 1])
        last = index == len(sizes) - 2
        nn.init.orthogonal_(linear.weight, last_gain if last else math.sqrt(2))
        nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, nn.Tanh()]
    return nn.Sequential(*layers)


def advantages_of(rewards: np.ndarray, values: np.ndarray, last_values: np.ndarray, dones: np.ndarray) -> np.ndarray:
    """Generalised advantages [T, B]; the value after a step counts where the episode goes on."""
    advantages = np.empty_like(rewards)
    following, trace = last_values, np.zeros_like(last_values)
    for t in reversed(range(len(rewards))):
        goes_on = 1.0 - dones[t]
        trace = rewards[t] + GAMMA * following * goes_on - values[t] + GAMMA * LAMBDA * goes_on * trace
        advantages[t], following = trace, values[t]
    return advantages


class PlainPPO:
    """PPO on copies of one environment.

    Attributes:
        returns: Of the last hundred episodes.
    """

    def __init__(self, setting: Setting, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.setting = setting
        self.envs = gym.make_vec(
            setting.env,
            num_envs=setting.copies,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        )
        space = self.envs.single_action_space
        self.discrete = isinstance(space, gym.spaces.Discrete)
        self.obs_size = int(np.prod(self.envs.single_observation_space.shape))
        self.action_size = int(space.n) if self.discrete else int(np.prod(space.shape))
        self.actor = mlp([self.obs_size, *setting.hidden, self.action_size], 0.01)
        self.critic = mlp([self.obs_size, *setting.hidden, 1], 1.0)
        self.log_std = nn.Parameter(torch.zeros(self.action_size))
        self.parameters = [*self.actor.parameters(), *self.critic.parameters()]
        if not self.discrete:
            self.parameters.append(self.log_std)
        self.optimizer = torch.optim.Adam(self.parameters, lr=LEARNING_RATE, eps=1e-5, fused=True)
        self.next_obs = self.envs.reset(seed=seed)[0].astype(np.float32)
        self.running = np.zeros(setting.copies)
        self.returns: deque[float] = deque(maxlen=100)

    def iterate(self) -> int:
        """Sample, then learn; returns the number of environment steps."""
        self._learn(*self._sample())
        return self.setting.rows

    @torch.no_grad()
    def _sample(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Observations, actions, log probabilities, advantages and value targets of T * B steps."""
        length, copies = self.setting.steps, self.setting.copies
        obs = np.empty((length + 1, copies, self.obs_size), np.float32)
        rewards, dones = np.empty((length, copies), np.float32), np.empty((length, copies), np.float32)
        actions, logps = [], []
        cut: list[tuple[int, int, np.ndarray]] = []  # time step, copy, last observation of episodes that were cut off
        for t in range(length):
            obs[t] = self.next_obs
            outputs = self.actor(torch.from_numpy(obs[t]))
            action = self._draw(outputs)
            actions.append(action)
            logps.append(self._logp(outputs, action))
            taken = action.numpy() if self.discrete else action.clamp(-1.0, 1.0).numpy()
            self.next_obs, rewards[t], terminated, truncated, infos = self.envs.step(taken)
            dones[t] = done = terminated | truncated
            self.running += rewards[t]
            if done.any():
                self.returns.extend(self.running[done])
                self.running[done] = 0.0
                cut += [(t, b, infos["final_obs"][b]) for b in np.flatnonzero(truncated & ~terminated)]
        obs[length] = self.next_obs
        finals = np.array([final for _, _, final in cut], np.float32).reshape(-1, self.obs_size)
        values = self.critic(torch.from_numpy(np.concatenate([obs.reshape(-1, self.obs_size), finals]))).numpy()[:, 0]
        stepwise = values[: obs.shape[0] * copies].reshape(-1, copies)
        for (t, b, _), value in zip(cut, values[stepwise.size :], strict=True):
            rewards[t, b] += GAMMA * value
        advantages = advantages_of(rewards, stepwise[:-1], stepwise[-1], dones)
        targets = torch.from_numpy(advantages + stepwise[:-1]).flatten()
        standardised = torch.from_numpy((advantages - advantages.mean()) / (advantages.std() + 1e-8)).flatten()
        seen = torch.from_numpy(obs[:-1]).reshape(-1, self.obs_size)
        return seen, torch.cat(actions), torch.cat(logps), standardised, targets

    def _learn(self, obs: Tensor, actions: Tensor, old_logps: Tensor, advantages: Tensor, targets: Tensor) -> None:
        for _ in range(self.setting.epochs):
            for rows in torch.randperm(len(obs)).split(self.setting.minibatch):
                seen, advantage = obs[rows], advantages[rows]
                ratio = torch.exp(self._logp(self.actor(seen), actions[rows]) - old_logps[rows])
                gain = torch.minimum(ratio * advantage, ratio.clamp(1.0 - CLIP, 1.0 + CLIP) * advantage).mean()
                error = (self.critic(seen).squeeze(1) - targets[rows]).square().mean()
                self.optimizer.zero_grad()
                (VALUE_COEFFICIENT * error - gain).backward()
                nn.utils.clip_grad_norm_(self.parameters, GRADIENT_CLIP)
                self.optimizer.step()

    def _draw(self, outputs: Tensor) -> Tensor:
        if self.discrete:
            return torch.multinomial(outputs.softmax(-1), 1).squeeze(1)
        return outputs + self.log_std.exp() * torch.randn_like(outputs)

    def _logp(self, outputs: Tensor, actions: Tensor) -> Tensor:
        if self.discrete:
            return outputs.log_softmax(-1).gather(1, actions.unsqueeze(1)).squeeze(1)
        scaled = (actions - outputs) * torch.exp(-self.log_std)
        return -(0.5 * scaled.square() + self.log_std).sum(-1) - 0.5 * math.log(2 * math.pi) * self.action_size


def main() -> None:
    setting, threads = read_command_line()
    torch.set_num_threads(threads)
    compete(PlainPPO(setting).iterate, {"gymnasium": gym.__version__, "torch": torch.__version__})


if __name__ == "__main__":
    main()
