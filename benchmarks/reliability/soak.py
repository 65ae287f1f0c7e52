"""The quickstart with a kill every minute: does any process grow?

    python benchmarks/reliability/soak.py [--minutes 20] [--every 60]

Trains tune_configs/quickstart.yaml with two env runners and two learners through Tune, which restarts from the last
checkpoint when a learner dies. Every minute a runner or a learner is killed in turn. Every 5 seconds the memory of all
processes is noted: of the driver, the trial (the algorithm's process), the runners and the learners. Writes
results/bench/soak.csv and results/bench/soak.png, and prints a Markdown table of the kills and one of the slopes.

Memory is the resident set without pages that are shared with other processes: those of the object store count for each
process that has ever read them.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np
from harness import TITLES, Watch, add_up, psutil, ray_processes, shortened, start_ray, totals
from ray import tune

from rllib_multienv.config_files import build_config, load_config_file

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results" / "bench"
EVERY_S = 5.0
#: A process takes memory until it has seen all of its work once; slopes are of the time after.
WARM_UP_S = 30.0
ROLES = ("driver", *TITLES)
MIB = 2**20


class Soak:
    """Kills and measures in its own threads, while the main thread of the driver is Tune's."""

    def __init__(self, minutes: float, every_s: float) -> None:
        self.watch = Watch()
        self.minutes, self.every_s = minutes, every_s
        self.samples: list[tuple[float, str, int, float]] = []  # seconds, role, process id, MiB
        self.kills: list[tuple[float, str]] = []

    def stop(self, trial_id: str, result: dict) -> bool:
        """Whether the time is over (Tune's call)."""
        return self.watch.done

    def run(self) -> None:
        """From the first result on, kill, and note the memory of all processes until the time is over."""
        while self.watch.result is None:
            time.sleep(0.5)
        self.watch.begun = time.monotonic()
        threading.Thread(target=self.kill, daemon=True).start()
        while not self.watch.done:
            now, found = self.watch.seconds, {"driver": [psutil.Process()], **ray_processes()}
            for role, processes in found.items():
                for process in processes:
                    try:
                        memory = process.memory_info()
                    except psutil.Error:
                        continue  # it has just ended
                    self.samples.append((now, role, process.pid, (memory.rss - memory.shared) / MIB))
            self.watch.done = now >= 60 * self.minutes
            time.sleep(EVERY_S)

    def kill(self) -> None:
        """Kill a runner, then a learner, each time another one of the two."""
        number = 0
        while not self.watch.done:
            role = ("runner", "learner")[number % 2]
            processes = ray_processes()[role]
            if processes and self.watch.seconds >= (number + 1) * self.every_s:
                processes[number // 2 % len(processes)].kill()
                self.kills.append((self.watch.seconds, role))
                number += 1
            time.sleep(0.5)  # until it is time, and the trial has started again

    def slopes(self) -> dict[str, list[tuple[float, float]]]:
        """For each role the slope (MiB per minute) and the length (minutes) of each stretch between kills."""
        edges = [0.0, *(seconds for seconds, _ in self.kills), float("inf")]
        stretches: dict[tuple[str, int, int], list[tuple[float, float]]] = defaultdict(list)
        born: dict[int, float] = {}
        for seconds, role, pid, mebibytes in self.samples:
            if seconds - born.setdefault(pid, seconds) >= WARM_UP_S:
                stretch = int(np.searchsorted(edges, seconds))
                stretches[role, pid, stretch].append((seconds / 60, mebibytes))
        found: dict[str, list[tuple[float, float]]] = {role: [] for role in ROLES}
        for (role, _, _), points in stretches.items():
            if len(points) >= 4:
                minutes, mebibytes = np.array(points).T
                found[role].append((float(np.polyfit(minutes, mebibytes, 1)[0]), float(minutes[-1] - minutes[0])))
        return found

    def at_age(self, age_s: float) -> dict[str, list[float]]:
        """For each role the memory of each of its processes at this age, in the order of their start."""
        born: dict[int, float] = {}
        seen: dict[int, tuple[str, float]] = {}
        for seconds, role, pid, mebibytes in self.samples:
            if seconds - born.setdefault(pid, seconds) >= age_s:
                seen.setdefault(pid, (role, mebibytes))
        return {role: [mebibytes for r, mebibytes in seen.values() if r == role] for role in ROLES}


def write(soak: Soak) -> None:
    """The samples as CSV, and a plot with one line for each role: the mean over its processes."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / "soak.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["seconds", "role", "process", "mebibytes"])
        numbers: dict[int, int] = {}
        for seconds, role, pid, mebibytes in soak.samples:
            rows.writerow([f"{seconds:.1f}", role, numbers.setdefault(pid, len(numbers)), f"{mebibytes:.1f}"])
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    for role in ROLES:
        at: dict[float, list[float]] = defaultdict(list)
        for seconds, r, _, mebibytes in soak.samples:
            if r == role:
                at[seconds].append(mebibytes)
        minutes = [seconds / 60 for seconds in at]
        axes.plot(minutes, [float(np.mean(values)) for values in at.values()], label=role)
    for role, style in (("runner", ":"), ("learner", "--")):
        times = [seconds / 60 for seconds, killed in soak.kills if killed == role]
        for number, minute in enumerate(times):
            axes.axvline(minute, color="grey", ls=style, lw=0.8, label=None if number else f"{role} killed")
    axes.set(xlabel="minutes", ylabel="memory of a process (MiB)", ylim=(0, None))
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.savefig(RESULTS / "soak.png", dpi=120)


def print_slopes(soak: Soak) -> None:
    """Print a Markdown table of how memory changed, within stretches and from one process to the next."""
    print("\n| role | slope, mean over stretches (MiB/min) | largest | stretches | MiB at 45 s of age: first, last |")
    print("|---|---|---|---|---|")
    ages = soak.at_age(45.0)
    for role, found in soak.slopes().items():
        if found:
            slopes, lengths = np.array(found).T
            mean = float(np.average(slopes, weights=lengths))
            first_last = f"{ages[role][0]:.0f}, {ages[role][-1]:.0f}"
            print(f"| {role} | {mean:+.2f} | {slopes.max():+.2f} | {len(slopes)} | {first_last} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between kills")
    arguments = parser.parse_args()
    start_ray(5)
    config = build_config(load_config_file(ROOT / "tune_configs" / "quickstart.yaml"))
    config.env_runners(num_env_runners=2).learners(num_learners=2)
    config.fault_tolerance(delay_between_env_runner_restarts_s=0.0)
    soak = Soak(arguments.minutes, arguments.every)
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            "MultiEnvPPO",
            param_space=config,
            run_config=tune.RunConfig(
                storage_path=folder,
                stop=soak.stop,
                callbacks=[soak.watch],
                failure_config=tune.FailureConfig(max_failures=-1),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2),
                verbose=0,
            ),
        )
        threading.Thread(target=soak.run, daemon=True).start()
        (result,) = tuner.fit()
    write(soak)
    print("killed: " + ", ".join(f"{role} at {seconds:.0f} s" for seconds, role in soak.kills))
    counters = totals(result.metrics)
    print(f"{result.metrics['training_iteration']} iterations: {counters}, {add_up(counters)}")
    print(f"last error in the log: {shortened(soak.watch.last_error())}")
    print_slopes(soak)


if __name__ == "__main__":
    main()
