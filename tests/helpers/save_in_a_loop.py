"""A program for test_driver_killed.py: processes that train and write one checkpoint over the other until killed.

RLlib starts once; every line `go` on the standard input forks a process. Its id is printed once it has restored the
checkpoint, trained for an iteration and begins to save. A line `load` builds a new algorithm from the checkpoint and
prints its next iteration.
"""

from __future__ import annotations

import os
import sys

from ray.rllib.algorithms.algorithm import Algorithm
from tiny_runs import tiny_config

PATH = sys.argv[1]


def go_on(algo: Algorithm, parent: int) -> None:
    algo.restore_from_path(PATH)
    algo.train()
    print(os.getpid(), flush=True)
    while os.getppid() == parent:
        for _ in range(3):  # so that most kills come while a checkpoint is written
            algo.save_to_path(PATH)
        algo.train()


algo = tiny_config().build_algo()
algo.train()
algo.save_to_path(PATH)
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "load":
        print(Algorithm.from_checkpoint(PATH).train()["training_iteration"], flush=True)
        continue
    me, child = os.getpid(), os.fork()
    if child == 0:
        go_on(algo, me)
        os._exit(0)
    os.waitpid(child, 0)
os._exit(0)
