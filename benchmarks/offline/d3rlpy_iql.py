"""d3rlpy's IQL on one data set, for comparison: same networks, batch, normalisation and number of updates as ours.

    python benchmarks/offline/d3rlpy_iql.py hopper.hdf5 --env Hopper-v4 --updates 50000 --output hopper_d3rlpy.json

After every epoch, a tenth of the updates unless --epochs says otherwise, there is an evaluation, where --env is given;
"losses" in the report has the means of each epoch. d3rlpy is no dependency of this package: install it in an
environment of its own, with the same PyTorch, ``pip install d3rlpy==2.8.1 "torch>=2.13,<2.14" mujoco==3.3.0 imageio``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import d3rlpy
import gymnasium as gym
import h5py
import numpy as np
import torch
from turns import serve

QUIET: dict[str, Any] = {"logger_adapter": d3rlpy.logging.NoopAdapterFactory(), "show_progress": False}


class KeepLosses(d3rlpy.logging.NoopAdapterFactory):
    """A logger that keeps the mean losses of each epoch."""

    def __init__(self) -> None:
        self.epochs: dict[int, dict[str, float]] = {}

    def create(self, algo: Any, experiment_name: str, n_steps_per_epoch: int) -> Any:
        epochs = self.epochs

        class Adapter(d3rlpy.logging.NoopAdapter):
            def write_metric(self, epoch: int, step: int, name: str, value: float) -> None:
                if name.endswith("_loss"):
                    epochs.setdefault(step, {"updates": step})[name] = float(value)

        return Adapter()


def load(path: Path) -> d3rlpy.dataset.ReplayBuffer:
    """The file's transitions, with next observations where an episode was cut."""
    with h5py.File(path) as file:
        arrays = {key: file[key][()] for key in ("observations", "actions", "rewards", "terminals", "timeouts")}
    return d3rlpy.dataset.MDPDataset(
        observations=arrays["observations"],
        actions=arrays["actions"],
        rewards=arrays["rewards"].reshape(-1, 1),
        terminals=arrays["terminals"].astype(np.float32),
        timeouts=arrays["timeouts"].astype(np.float32),
        action_space=d3rlpy.ActionSpace.CONTINUOUS,
    )


def build() -> d3rlpy.algos.IQL:
    """IQL with the settings of its paper; those not named are d3rlpy's defaults, which are the same."""
    config = d3rlpy.algos.IQLConfig(
        batch_size=256,
        gamma=0.99,
        actor_learning_rate=3e-4,
        critic_learning_rate=3e-4,
        tau=0.005,
        expectile=0.7,
        weight_temp=3.0,
        max_weight=100.0,
        observation_scaler=d3rlpy.preprocessing.StandardObservationScaler(),
        reward_scaler=d3rlpy.preprocessing.ReturnBasedRewardScaler(multiplier=1000.0),
        action_scaler=d3rlpy.preprocessing.MinMaxActionScaler(),
    )
    return config.create(device="cpu:0")


def evaluate(algorithm: d3rlpy.algos.IQL, env_id: str, episodes: int) -> list[float]:
    """Returns of deterministic episodes."""
    env = gym.make(env_id)
    returns = []
    for seed in range(episodes):
        obs, _ = env.reset(seed=seed)
        total, done = 0.0, False
        while not done:
            obs, reward, terminated, truncated, _ = env.step(algorithm.predict(obs[None].astype(np.float32))[0])
            total += float(reward)
            done = terminated or truncated
        returns.append(total)
    return returns


def compete(algorithm: d3rlpy.algos.IQL, dataset: d3rlpy.dataset.ReplayBuffer) -> None:
    """Make updates when told to by benchmarks/iql.py."""
    # Builds the networks and fits the scalers.
    algorithm.fit(dataset, n_steps=10, n_steps_per_epoch=10, **QUIET)

    def step(updates: int) -> None:
        for _ in range(updates):
            algorithm.update(dataset.sample_transition_batch(256))

    serve(step, {"d3rlpy": d3rlpy.__version__})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--env", help="to evaluate in")
    parser.add_argument("--updates", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--serve", action="store_true", help="make updates when told to (benchmarks/iql.py)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    d3rlpy.seed(options.seed)
    dataset = load(options.file)
    algorithm = build()
    if options.serve:
        compete(algorithm, dataset)
        return
    curve: list[dict[str, float]] = []
    losses = KeepLosses()
    evaluating = 0.0

    def add_point(algorithm: d3rlpy.algos.IQL, epoch: int, updates: int) -> None:
        nonlocal evaluating
        start = time.perf_counter()
        returns = evaluate(algorithm, options.env, options.episodes)
        curve.append({"updates": updates, "return_mean": np.mean(returns), "return_std": np.std(returns)})
        evaluating += time.perf_counter() - start
        print(json.dumps(curve[-1]), flush=True)

    start = time.perf_counter()
    algorithm.fit(
        dataset,
        n_steps=options.updates,
        n_steps_per_epoch=options.updates // options.epochs,
        epoch_callback=add_point if options.env else None,
        logger_adapter=losses,
        show_progress=False,
    )
    seconds = time.perf_counter() - start - evaluating
    report = {
        "file": options.file.name,
        "env": options.env,
        "algorithm": f"d3rlpy {d3rlpy.__version__}",
        "updates": options.updates,
        "seed": options.seed,
        "updates_per_second": options.updates / seconds,
        "curve": curve,
        "losses": [losses.epochs[step] for step in sorted(losses.epochs)],
    }
    if options.output:
        options.output.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
