"""Run as a program: loads a checkpoint where Ray cannot be imported, acts, and prints what it did as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any


class NoRay:
    """An import hook that knows no Ray."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name.split(".")[0] == "ray":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def main(checkpoint: str, observations: str) -> None:
    sys.meta_path.insert(0, NoRay())
    import numpy as np

    import rllib_multienv

    agent = rllib_multienv.MultiEnvAgent.from_checkpoint(checkpoint)
    obs = {env_id: np.array(rows, np.float32) for env_id, rows in json.loads(observations).items()}
    print(
        json.dumps(
            {
                "trained": list(agent.env_specs),
                "batches": {env_id: agent.act(env_id, rows).tolist() for env_id, rows in obs.items()},
                "single": {e: [np.asarray(agent.act(e, row)).tolist() for row in rows] for e, rows in obs.items()},
                "new": agent.act("Hopper-v4", np.zeros(11, np.float32)).tolist(),
                "episodes": agent.evaluate("CartPole-v1", episodes=3, seed=1),
                "ray": [name for name in sys.modules if name.split(".")[0] == "ray"],
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
