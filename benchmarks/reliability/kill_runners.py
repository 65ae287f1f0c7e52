"""SIGKILL to env runners while they sample.

    python benchmarks/reliability/kill_runners.py [--kills 5]

Prints a Markdown table with a line for each kill, and at the end whether the stop criterion was reached with every
counted step trained. Takes about a minute.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import threading
import time

from harness import Survivor, print_table, small_config, start_ray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    kills = parser.parse_args().kills
    start_ray(3)
    algo = small_config().env_runners(num_env_runners=2).build_algo()
    run = Survivor(algo)
    begun = time.monotonic()
    algo._sampling.round()
    duration = time.monotonic() - begun
    chance = random.Random(0)
    for kill in range(kills):
        pids = algo.env_runner_group.foreach_env_runner(lambda runner: os.getpid(), local_env_runner=False)
        worker = kill % 2 + 1

        def strike(pid: int = pids[worker - 1], worker: int = worker) -> str:
            wait = chance.uniform(0.1, 0.9) * duration
            threading.Timer(wait, os.kill, (pid, signal.SIGKILL)).start()
            return f"runner {worker}, {wait:.2f} s into sampling ({duration:.2f} s long)"

        run.survive(strike, lambda: algo.env_runner_group.num_healthy_remote_workers() == 2)
    print_table(run.rows)
    run.finish(env_steps=25_000 * kills)
    algo.stop()


if __name__ == "__main__":
    main()
