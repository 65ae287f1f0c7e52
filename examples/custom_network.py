"""A network of your own for environments of any size: a sum over components instead of a sequence model.

Run it with::

    python examples/custom_network.py [ITERATIONS]

A network is two classes: a config (a frozen dataclass whose ``type`` names it in YAML files and checkpoints) and an
``ActorCritic`` with two methods, for the parts ``"actor"`` and ``"critic"``: ``encode`` turns the numbers of
observations ``{env_id: [B, I]}`` into one vector per row, and ``decode`` turns these into policies and values. Here
every number of an observation passes, together with its position, a small MLP; the mean over numbers is the row's
vector (Zaheer et al. 2017, "Deep sets"); each logit, or mean and deviation, of an action is read from that vector and
its position. Images and text are encoded by the package's encoders and added to the vector. No parameter belongs to an
environment, so the agent can be transferred to others. The network also works with ``MultiEnvIQL``: its action values
are made of the same two methods.

Each iteration prints the mean returns (20 iterations by default, about a second each on two CPU cores). CartPole-v1
rises from about 20 to 100 and more; Pendulum-v1 stays near -1200 for longer than that.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from rllib_multienv import MultiEnvPPOConfig
from rllib_multienv.nets import ActorCritic, Interface, NetConfig, Part

POSITIONS = 8


@dataclass(frozen=True, kw_only=True)
class SetNetConfig(NetConfig):
    """Config of `SetActorCritic`."""

    type: ClassVar[str] = "set"
    width: int = 64

    def build(self, interfaces: Mapping[str, Interface]) -> "SetActorCritic":
        """Build the network for these environments; others can be added later."""
        return SetActorCritic(self, interfaces)


def with_positions(values: Tensor) -> Tensor:
    """``[B, N, F]`` to ``[B, N, F + POSITIONS]``: sines and cosines of each place are added."""
    angles = torch.arange(values.shape[1])[:, None] / 10.0 ** torch.linspace(0, 2, POSITIONS // 2)
    places = torch.cat([angles.sin(), angles.cos()], 1).to(values)  # [N, POSITIONS]
    return torch.cat([values, places.expand(len(values), -1, -1)], 2)


class Tower(nn.Module):
    """Actor or critic: an encoder, and a decoder for each kind of output with so many numbers per output."""

    def __init__(self, width: int, outputs: Mapping[str, int]) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(1 + POSITIONS, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        self.decoders = nn.ModuleDict()
        for name, size in outputs.items():
            last = nn.Linear(width, size)
            nn.init.orthogonal_(last.weight, 0.1)
            self.decoders[name] = nn.Sequential(nn.Linear(width + POSITIONS, width), nn.Tanh(), last)

    def decode(self, name: str, rows: Tensor, count: int) -> Tensor:
        """``[B, H]`` to ``[B, count, numbers per output]``."""
        read: Tensor = self.decoders[name](with_positions(rows[:, None].expand(-1, count, -1)))
        return read


class SetActorCritic(ActorCritic):
    """Policy and value without a parameter that belongs to an environment."""

    def __init__(self, config: SetNetConfig, interfaces: Mapping[str, Interface]) -> None:
        super().__init__()
        self.config = config
        self.actor = Tower(config.width, {"logits": 1, "gaussian": 2})
        self.critic = Tower(config.width, {"value": 1})
        self.encoders = config.encoders(interfaces, config.width)  # of images and text
        self.memory = config.memory_of(interfaces, config.width)
        self.world_attention = config.world_attention_of(config.width)
        for env_id, interface in interfaces.items():
            self.add_env(env_id, interface)

    def encode(self, part: Part, obs: Mapping[str, Tensor], media: Tensor | None = None) -> Tensor:
        """Means over encoded components ``[R, H]``, the rows of all environments one after the other."""
        encoder = self.actor.encoder if part == "actor" else self.critic.encoder
        rows = torch.cat([encoder(with_positions(value[..., None])).mean(1) for value in obs.values()])
        return rows if media is None else rows + media

    def decode(self, part: Part, rows: Tensor, counts: Mapping[str, int]) -> dict[str, Tensor]:
        """Logits, then means, then log standard deviations ``[B, n + 2 A]``; values ``[B]``."""
        outputs = {}
        for env_id, own in zip(counts, rows.split(list(counts.values())), strict=True):
            if part == "critic":
                outputs[env_id] = self.critic.decode("value", own, 1)[:, 0, 0]
                continue
            action = self.interfaces[env_id].action
            logits = self.actor.decode("logits", own, action.num_logits)  # [B, n, 1]
            gaussian = self.actor.decode("gaussian", own, action.num_continuous)  # [B, A, 2]
            outputs[env_id] = torch.cat([logits[..., 0], gaussian.transpose(1, 2).flatten(1)], 1)
        return outputs


if __name__ == "__main__":
    iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    config = (
        MultiEnvPPOConfig()
        .environment(envs=["CartPole-v1", "Pendulum-v1"])
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8, rollout_fragment_length=128)
        .rl_module(model_config=SetNetConfig(width=64))
        .training(actor_lr=1e-3, critic_lr=1e-3)
        .debugging(seed=0)
    )
    algo = config.build_algo()
    for iteration in range(iterations):
        returns = algo.train()["env_runners"]["module_episode_return_mean"]
        print(iteration + 1, {env_id: round(float(value), 1) for env_id, value in returns.items()}, flush=True)
    algo.stop()
