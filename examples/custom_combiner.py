"""A way of your own to combine the environments' gradients.

Run it with::

    python examples/custom_combiner.py [ITERATIONS]

A combiner is one class with one method. It says what it looks at (losses, inner products of gradients, or the gradients
themselves) and returns a weight for each environment. This one gives all gradients the length of the shortest among
those that agree with the sum, and leaves out those that point against it. It is called for the gradients of policy and
values apart, gives the same step on any number of learners, and what it keeps in attributes is saved in checkpoints. A
file has it as ``gradient_combiner: {type: "custom_combiner:AgreeingGradients", least: 0.1}``.

Each iteration prints the mean returns (20 by default, a second or two each; CartPole-v1 rises from about 20), and the
last line how often an environment was left out.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rllib_multienv import MultiEnvPPOConfig
from rllib_multienv.learners.combine import GramCombiner


@dataclass
class AgreeingGradients(GramCombiner):
    """Gradients of equal length, without those whose cosine with their sum is below ``least``."""

    least: float = 0.0
    left_out: Counter[str] = field(default_factory=Counter)

    def solve(self, gram: np.ndarray, env_ids: Sequence[str]) -> np.ndarray:
        """Weights [K] from the inner products [K, K] of the gradients that are not zero."""
        norms = np.sqrt(gram.diagonal())
        cosines = gram.sum(1) / norms / np.sqrt(gram.sum().clip(min=1e-12))  # [K], with the sum of all
        agrees = cosines >= self.least
        self.left_out.update(env_id for env_id, kept in zip(env_ids, agrees, strict=True) if not kept)
        shortest = norms[agrees].min(initial=np.inf)
        return np.where(agrees, shortest / norms, 0.0)


if __name__ == "__main__":
    iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    config = (
        MultiEnvPPOConfig()
        .environment(envs=["CartPole-v1", "Pendulum-v1", "Acrobot-v1"])
        .training(gradient_combiner=AgreeingGradients(least=0.1), combine_every=4)
        .debugging(seed=0)
    )
    algo = config.build_algo()
    for iteration in range(iterations):
        returns = algo.train()["env_runners"]["module_episode_return_mean"]
        print(iteration + 1, {env_id: round(float(value), 1) for env_id, value in returns.items()}, flush=True)
    combiners = algo.learner_group.get_state()["learner"]["combiners"]
    print({group: dict(state["left_out"]) for group, state in combiners.items()})
    algo.stop()
