"""A node of a three-node cluster is lost, and later another one comes.

    python benchmarks/reliability/remove_nodes.py [--removals 5] [--json FILE]

A local `ray.cluster_utils.Cluster`: a head for the driver, and two nodes that hold one env runner each. A node is
removed while its runner samples, training continues with the other for a few iterations, then a node is added and the
runner comes back. Prints a Markdown table with a line for each removal. Takes about two minutes.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray
import torch
from harness import Survivor, print_table, sampled_by_env, small_config
from ray.cluster_utils import Cluster

#: Iterations without the node.
WITHOUT = 3
#: Steps of one environment in one iteration.
FRAGMENT = 8 * 128
_MEMORY = 100 * 2**20  # of each node's object store


def remove_and_add(removals: int) -> list[dict[str, Any]]:
    """Remove so many nodes one after the other; the lines of the table, and whether the other runner continued."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": _MEMORY, "include_dashboard": False},
    )
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=_MEMORY) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    algo = small_config().env_runners(num_env_runners=2).build_algo()
    run = Survivor(algo)
    alone: list[bool] = []

    def strike() -> str:
        before = sampled_by_env(run.result)
        remove = threading.Timer(0.1, cluster.remove_node, (nodes.pop(0),), {"allow_graceful": False})
        remove.start()
        for _ in range(WITHOUT):
            run.result = algo.train()
        remove.join()
        now = sampled_by_env(run.result)
        alone.append(any(now[env_id] >= before[env_id] + (WITHOUT - 1) * FRAGMENT for env_id in now))
        nodes.append(cluster.add_node(num_cpus=1, object_store_memory=_MEMORY))
        return f"0.1 s into sampling; another node {WITHOUT} iterations later"

    for _ in range(removals):
        run.survive(strike, lambda: algo.env_runner_group.num_healthy_remote_workers() == 2)
    print_table(run.rows)
    print(f"\nThe other runner sampled meanwhile: {sum(alone)} of {len(alone)} times.")
    run.finish(env_steps=25_000 * removals)
    algo.stop()
    ray.shutdown()
    cluster.shutdown()
    return [{**asdict(row), "others_went_on": other} for row, other in zip(run.rows, alone, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--removals", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the lines of the table here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="ray_", ignore_cleanup_errors=True) as folder:
        # `Cluster` announces itself in Ray's folder, and every other `ray.init()` on this machine would join it.
        os.environ["RAY_TMPDIR"] = folder
        rows = remove_and_add(arguments.removals)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
