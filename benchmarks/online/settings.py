"""What is equal for all competitors of benchmarks/online_ppo.py: environment, sizes, and PPO's settings.

Nothing but the standard library is needed, so that a competitor can live in another virtual environment.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, fields

#: Rewards and observations are normalised nowhere, values are not clipped, no KL penalty, no entropy bonus.
LEARNING_RATE = 3e-4
GAMMA, LAMBDA = 0.99, 0.95
CLIP = 0.2
VALUE_COEFFICIENT = 0.5  # of the mean squared error
GRADIENT_CLIP = 0.5


@dataclass(frozen=True, kw_only=True)
class Setting:
    """An environment, how much of it an iteration samples, and how often it is learned."""

    env: str
    copies: int
    steps: int
    minibatch: int
    epochs: int
    hidden: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Environment steps of an iteration."""
        return self.copies * self.steps

    def to_json(self) -> str:
        """For the command line of a competitor."""
        return json.dumps(asdict(self))

    def in_words(self) -> str:
        """For the head of a table."""
        layers = "x".join(map(str, self.hidden))
        return (
            f"{self.env}, {self.copies} copies x {self.steps} steps, minibatch {self.minibatch}, {self.epochs} epochs, "
            f"MLP {layers}"
        )


SETTINGS = {
    "cartpole": Setting(env="CartPole-v1", copies=8, steps=128, minibatch=128, epochs=4, hidden=(64, 64)),
    "halfcheetah": Setting(env="HalfCheetah-v4", copies=32, steps=64, minibatch=256, epochs=10, hidden=(256, 256)),
}
SHORT = {
    "cartpole": Setting(env="CartPole-v1", copies=4, steps=32, minibatch=32, epochs=2, hidden=(64, 64)),
    "halfcheetah": Setting(env="HalfCheetah-v4", copies=4, steps=16, minibatch=16, epochs=2, hidden=(64, 64)),
}


def read_command_line() -> tuple[Setting, int]:
    """A competitor's setting and its number of threads."""
    parser = argparse.ArgumentParser()
    parser.add_argument("setting", help="the fields of a Setting as JSON")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    values = json.loads(options.setting)
    unknown = values.keys() - {field.name for field in fields(Setting)}
    if unknown:
        parser.error(f"a Setting has no {', '.join(sorted(unknown))}")
    return Setting(**{**values, "hidden": tuple(values["hidden"])}), options.threads
