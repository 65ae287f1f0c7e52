"""Shared by the scripts of this folder: a small run, its processes, its log, and a table of failures."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from rllib_multienv import MultiEnvPPO, MultiEnvPPOConfig

import psutil  # isort: skip  # the copy that Ray brings along, which is found once Ray is imported

ENVS = ("CartPole-v1", "Acrobot-v1", "InvertedPendulum-v4", "Reacher-v4")
#: Limit for the recovery from a failure: a script that finds a hang must not hang itself.
PATIENCE_S = 180.0


@dataclass(kw_only=True)
class Row:
    """One failure and what followed."""

    number: int
    moment: str
    log: str
    seconds: float  # from the failure until every environment had been sampled again
    sampled: int
    trained: int
    lost: int  # steps that were counted as sampled and reached no learner
    fragments_lost: int
    outcome: str

    @property
    def cells(self) -> list[str]:
        return [f"{value:.1f}" if isinstance(value, float) else str(value) for value in asdict(self).values()]


#: Steps and fragments are those of the run so far.
HEADER = ("kill", "moment", "what the log said", "s until all sampled again", "steps sampled", "steps trained",
          "steps lost", "fragments lost", "outcome")  # fmt: skip


def print_table(rows: Sequence[Row]) -> None:
    """Print a Markdown table."""
    print("| " + " | ".join(HEADER) + " |")
    print("|" + "---|" * len(HEADER))
    for row in rows:
        print("| " + " | ".join(cell.replace("|", "/") for cell in row.cells) + " |", flush=True)


class Log(logging.Handler):
    """The first lines of RLlib's warnings and errors, each once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self.first_at = 0.0
        logging.getLogger("ray.rllib").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        line = shortened(record.getMessage())
        if record.module != "actor_manager" and line not in self.lines:  # it repeats our messages
            self.first_at = self.first_at if self.lines else time.monotonic()
            self.lines.append(line)

    def take(self) -> str:
        """The lines since the last call."""
        text, self.lines = "; ".join(self.lines), []
        return text


def shortened(message: str, length: int = 110) -> str:
    """The beginning of the first line of a message."""
    line = message.splitlines()[0]
    return line if len(line) <= length else f"{line[:length].rstrip()}..."


def start_ray(num_cpus: int) -> None:
    """Start a Ray that has as many CPUs as the run needs, whatever the number of cores."""
    torch.set_num_threads(1)
    ray.init("local", num_cpus=num_cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


def small_config(envs: Sequence[Any] = ENVS) -> MultiEnvPPOConfig:
    """The quickstart's environments and network, with short updates; runners that died are restarted at once."""
    return (
        MultiEnvPPOConfig()
        .environment(envs=list(envs))
        .env_runners(num_envs_per_env_runner=8, rollout_fragment_length=128)
        .rl_module(model_config={"d_model": 32})
        .training(num_epochs=2, num_minibatches=4)
        .fault_tolerance(delay_between_env_runner_restarts_s=0.0)
        .debugging(seed=0)
    )


def sampled_by_env(result: Mapping[str, Any]) -> dict[str, int]:
    return {env_id: int(n) for env_id, n in result["env_runners"]["num_module_steps_sampled_lifetime"].items()}


def totals(result: Mapping[str, Any]) -> dict[str, int]:
    """Counters over all environments."""
    learners = result["learners"]
    lost = sum(found.get("num_env_steps_lost_lifetime", 0) for found in learners.values())
    fragments = sum(result["env_runners"].get("num_fragments_lost_lifetime", {}).values())
    fragments += sum(found.get("num_fragments_lost_lifetime", 0) for found in learners.values())
    return {
        "sampled": int(result["env_runners"]["num_env_steps_sampled_lifetime"]),
        "trained": int(learners["__all_modules__"]["num_env_steps_trained_lifetime"]),
        "lost": int(lost),
        "fragments_lost": int(fragments),
    }


def add_up(counters: Mapping[str, int]) -> str:
    """Whether every sampled step was trained on or counted as lost."""
    return "steps add up" if counters["sampled"] == counters["trained"] + counters["lost"] else "STEPS DIFFER"


class Survivor:
    """Trains, causes a failure, and trains until every environment has been sampled again."""

    def __init__(self, algo: MultiEnvPPO) -> None:
        self.algo = algo
        self.log = Log()
        self.result: dict[str, Any] = algo.train()
        self.rows: list[Row] = []

    def survive(self, strike: Callable[[], str], healed: Callable[[], bool] = lambda: True) -> Row:
        """Go through one failure.

        Args:
            strike: Causes it, now or in a moment, and returns when.
            healed: Whether the failed process is back.
        """
        before = sampled_by_env(self.result)
        self.log.take()
        begun = time.monotonic()
        moment = strike()
        while True:
            self.result = self.algo.train()
            now = sampled_by_env(self.result)
            grown = all(steps > before[env_id] for env_id, steps in now.items())
            if self.log.lines and grown and healed():
                break
            if time.monotonic() - begun > PATIENCE_S:
                raise TimeoutError(f"Not all environments were sampled within {PATIENCE_S:g} s: {now} after {before}.")
        seconds = time.monotonic() - self.log.first_at
        counters = totals(self.result)
        row = Row(
            number=len(self.rows) + 1,
            moment=moment,
            log=self.log.take(),
            seconds=seconds,
            outcome=f"continued; {add_up(counters)}",
            **counters,
        )
        self.rows.append(row)
        return row

    def finish(self, env_steps: int) -> None:
        """Train to the stop criterion and print the counters."""
        while self.result["env_runners"]["num_env_steps_sampled_lifetime"] < env_steps:
            self.result = self.algo.train()
        counters = totals(self.result)
        print(f"\nStop criterion of {env_steps} env steps reached: {counters}, {add_up(counters)}.")


#: Beginnings of the titles of Ray's processes; a learner has Ray Train's.
TITLES = {"trial": "ray::MultiEnvPPO", "runner": "ray::MultiEnvRunner", "learner": "ray::_WrappedExecutable"}


def title_of(process: psutil.Process) -> str:
    """The command line of a process; empty if it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def ray_processes() -> dict[str, list[psutil.Process]]:
    """Trial, runners and learners among the children of this process, in the order of their start."""
    found: dict[str, list[psutil.Process]] = {role: [] for role in TITLES}
    for process in psutil.Process().children(recursive=True):
        title = title_of(process)
        for role, beginning in TITLES.items():
            if title.startswith(beginning):
                found[role].append(process)
    for processes in found.values():
        processes.sort(key=lambda process: process.pid)
    return found


class Watch(tune.Callback):
    """The latest result of a Tune run of one trial, and its time."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.result: dict[str, Any] | None = None
        self.reported_at = 0.0
        self.error_file = ""
        self.done = False  # no more kills

    @property
    def seconds(self) -> float:
        """Since the start of the run."""
        return time.monotonic() - self.begun

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        self.result, self.reported_at = result, time.monotonic()

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.error_file = trial.error_file

    def wait_for_result(self, since: float, iterations: int = 1) -> dict[str, Any]:
        """A result after the time `since`, of a trial with at least so many iterations since its last start."""
        while True:
            if self.reported_at > since and self.result["iterations_since_restore"] >= iterations:
                return self.result
            if time.monotonic() - max(since, self.begun) > PATIENCE_S:
                raise TimeoutError(f"No result within {PATIENCE_S:g} s.")
            time.sleep(0.05)

    def last_error(self) -> str:
        """The last error of the trial, from Tune's file."""
        lines = Path(self.error_file).read_text().splitlines() if self.error_file else []
        failures = [line.rpartition("LearnerFailure: ")[2] for line in lines if "LearnerFailure: Learner" in line]
        return failures[-1] if failures else "nothing"
