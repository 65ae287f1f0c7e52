"""Updates per second of IQL: this package, d3rlpy and RLlib, with equal networks and batches, in turn.

    python benchmarks/iql.py [--d3rlpy-python PATH] [--repeats 5] [--updates 300] [--short] [--output FILE]

The data set is noise with the sizes of HalfCheetah (17 observations, 6 actions); its content does not change the time
of an update. MLPs of 256, 256 units for policy, V and twin Q, batch 256, one thread, one process. An update of all
three is one step of V, of both Q, of the policy and of the target networks, with drawing the batch. RLlib reads the
same transitions as Parquet through its own data path.

The competitors are built first and then run in turn, so that other load on the machine meets all of them alike. Printed
are medians over the repetitions. d3rlpy is no dependency of this package: pass the Python of an environment that has it
(benchmarks/offline/d3rlpy_iql.py says how to make one), or its column stays empty.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from publish import publish

sys.path.insert(0, str(Path(__file__).parent / "offline"))
from turns import Competitor, serve

from rllib_multienv.experiments.invocation import describe_machine

HERE = Path(__file__).parent
OBS_SIZE, ACTION_SIZE, EPISODE = 17, 6, 500
STEPS = 20_000
BATCH = 256


def write_data(folder: Path) -> Path:
    """Noise in D4RL's layout."""
    rng = np.random.default_rng(0)
    path = folder / "noise.hdf5"
    ends = np.arange(STEPS) % EPISODE == EPISODE - 1
    with h5py.File(path, "w") as file:
        file["observations"] = rng.normal(size=(STEPS, OBS_SIZE)).astype(np.float32)
        file["next_observations"] = rng.normal(size=(STEPS, OBS_SIZE)).astype(np.float32)
        file["actions"] = rng.uniform(-1, 1, (STEPS, ACTION_SIZE)).astype(np.float32)
        file["rewards"] = rng.normal(size=STEPS).astype(np.float32)
        file["terminals"], file["timeouts"] = np.zeros(STEPS, bool), ends
    return path


def run_ours(path: Path) -> None:
    import torch

    from rllib_multienv import MLPNetConfig, MultiEnvIQLConfig

    algorithm = (
        MultiEnvIQLConfig()
        .offline_data(datasets={"noise": str(path)})
        .rl_module(model_config=MLPNetConfig(hidden=(256, 256), activation="relu"))
        .training(batch_size=BATCH, num_steps_per_iteration=1)
        .debugging(seed=0)
        .build_algo()
    )
    torch.set_num_threads(1)

    def step(updates: int) -> None:
        algorithm.learner_group.update(training_data=algorithm.training_data, timesteps={}, num_steps=updates)

    step(10)
    share = drawing_share(algorithm, step)
    serve(step, {"torch": torch.__version__, "drawing_share": f"{share:.4f}"})


def drawing_share(algorithm: Any, step: Callable[[int], None], updates: int = 200) -> float:
    """CPU time of drawing minibatches over that of whole updates."""
    data = algorithm.training_data
    start = time.process_time()
    step(updates)
    whole = time.process_time() - start
    start = time.process_time()
    keys = dict.fromkeys(data.datasets, 0)
    for _ in data.draw(data.datasets, num_steps=updates, seed=0, first_step=0, keys=keys):
        pass
    return (time.process_time() - start) / whole


def run_rllib(path: Path) -> None:
    import gymnasium as gym
    import pandas as pd
    import ray
    import torch
    from ray.rllib.algorithms.iql.iql import IQLConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    with h5py.File(path) as file:
        data = {key: file[key][()] for key in file}
    number = np.arange(STEPS)
    folder = path.parent / "parquet"
    folder.mkdir(exist_ok=True)
    pd.DataFrame(
        {
            "eps_id": (number // EPISODE).astype(str),
            "obs": list(data["observations"]),
            "actions": list(data["actions"]),
            "rewards": data["rewards"],
            "new_obs": list(data["next_observations"]),
            "terminateds": data["terminals"],
            "truncateds": data["timeouts"],
        }
    ).to_parquet(folder / "noise.parquet")
    algorithm = (
        IQLConfig()
        .environment(
            observation_space=gym.spaces.Box(-np.inf, np.inf, (OBS_SIZE,), np.float32),
            action_space=gym.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32),
        )
        .offline_data(
            input_=[folder.as_posix()],
            input_read_method="read_parquet",
            dataset_num_iters_per_learner=1,
            map_batches_kwargs={"concurrency": 1},
            iter_batches_kwargs={"prefetch_batches": 1},
        )
        .training(twin_q=True, train_batch_size_per_learner=BATCH, expectile=0.7, beta=1.0, tau=0.005)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[256, 256], fcnet_activation="relu"))
        .learners(num_learners=0)
        .debugging(log_level="ERROR")
        .build_algo()
    )
    torch.set_num_threads(1)

    def step(updates: int) -> None:
        for _ in range(updates):
            algorithm.training_step()

    step(10)
    serve(step, {"ray": ray.__version__, "torch": torch.__version__})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d3rlpy-python", type=Path, help="an interpreter that has d3rlpy")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--updates", type=int, default=300, help="of each turn")
    parser.add_argument("--rllib-updates", type=int, default=40, help="of each of RLlib's turns")
    parser.add_argument("--without-rllib", action="store_true", help="leave out RLlib, which takes longest to start")
    parser.add_argument("--short", action="store_true", help="try the benchmark itself")
    parser.add_argument("--output", type=Path, help="also write the table to this file")
    parser.add_argument("--worker", choices=("ours", "rllib"), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        {"ours": run_ours, "rllib": run_rllib}[options.worker](options.data)
        return
    if options.short:
        options.repeats, options.updates, options.rllib_updates = 2, 20, 3
    os.environ["OMP_NUM_THREADS"] = "1"
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        data = write_data(Path(folder))
        itself = [sys.executable, str(Path(__file__).resolve()), "--data", str(data), "--worker"]
        commands = {"rllib_multienv": [*itself, "ours"]}
        if not options.without_rllib:
            commands["RLlib"] = [*itself, "rllib"]
        if options.d3rlpy_python:
            script = str(HERE / "offline" / "d3rlpy_iql.py")
            commands["d3rlpy"] = [str(options.d3rlpy_python), script, str(data), "--serve"]
        competitors = [Competitor(name, command) for name, command in commands.items()]
        rates: dict[str, list[float]] = {competitor.name: [] for competitor in competitors}
        for _ in range(options.repeats):
            for competitor in competitors:
                updates = options.rllib_updates if competitor.name == "RLlib" else options.updates
                rates[competitor.name].append(competitor.run(updates))
                time.sleep(0.2)
        for competitor in competitors:
            competitor.close()
    ours = statistics.median(rates["rllib_multienv"])
    versions = {name: version for competitor in competitors for name, version in competitor.versions.items()}
    share = float(versions.pop("drawing_share"))
    lines = [
        f"{describe_machine()}; {', '.join(f'{name} {version}' for name, version in versions.items())}; "
        f"load before the start {load:.1f}; {options.repeats} turns of {options.updates} updates "
        f"({options.rllib_updates} of RLlib).",
        "",
        "| | updates/s, median | range | ours is faster by |",
        "|---|---:|---:|---:|",
    ]
    for name, found in rates.items():
        median = statistics.median(found)
        lines.append(f"| {name} | {median:.4g} | {min(found):.4g} to {max(found):.4g} | {ours / median:.2f} |")
    lines += ["", f"Drawing and batching: {share:.1%} of an update's CPU time in rllib_multienv."]
    text = "\n".join(lines)
    publish(text, options.output)


if __name__ == "__main__":
    main()
