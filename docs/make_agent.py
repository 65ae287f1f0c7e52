"""Writes an agent that comes with the package: `python docs/make_agent.py results/quickstart`.

The folder's name is the agent's. Only the agent's own two files are written, with their checksums, not RLlib's.
"""

import sys
from pathlib import Path

from rllib_multienv.checkpoints import SHIPPED, find_checkpoint, read_checkpoint, training_progress


def main(run: str) -> None:
    """Write the newest checkpoint of a run."""
    folder = SHIPPED / Path(run).name
    folder.mkdir(parents=True, exist_ok=True)
    read_checkpoint(run).write(folder, training=training_progress(find_checkpoint(run)))
    print(f"{folder}: {sum(file.stat().st_size for file in folder.iterdir()) / 1e3:.0f} kB")


if __name__ == "__main__":
    main(*sys.argv[1:])
