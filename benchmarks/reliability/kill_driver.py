"""Kill `multienv train` ten times, at random moments around the writing of a checkpoint, and resume it every time.

Half of the kills hit the program alone, half all of Ray's processes too; half come within the few milliseconds in which
a checkpoint is copied into the run's folder, half at any moment. The run is resumed at once, without waiting for the
remaining processes of the killed one. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ray  # noqa: F401

import psutil  # isort: skip  # the copy that Ray brings along, which is found once Ray is imported

from rllib_multienv.checkpoints import checkpoint_folders, incomplete_reason, newest_complete, training_progress
from rllib_multienv.evaluation.progress import read_progress
from rllib_multienv.runs.resume import TuneState

CONFIG = """\
algorithm: MultiEnvPPO
environment: {envs: [CartPole-v1, Acrobot-v1, InvertedPendulum-v4, Reacher-v4]}
env_runners: {num_env_runners: 1, num_envs_per_env_runner: 2, rollout_fragment_length: 64}
rl_module: {model_config: {type: agnostic, d_model: 64}}
training: {num_epochs: 1, num_minibatches: 2}
debugging: {seed: 0}
stop: {training_iteration: 1000000}
tune: {checkpoint_config: {checkpoint_frequency: 1, num_to_keep: 3}}
"""
HEADER = ("kill", "moment", "killed", "Ray's processes gone after", "state found", "resumed from iteration", "outcome")
#: Limit for a start: a script that finds a hang must not hang itself.
PATIENCE_S = 240.0


class Program:
    """`multienv train`, running."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.output = open(folder / "output.txt", "w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rllib_multienv", "train", *arguments],
            cwd=folder,
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )

    def wait_for(self, path: Path, *, pause: float = 0.001) -> None:
        """Wait until there is something at `path`.

        Raises:
            RuntimeError: The program has ended before, or it takes too long.
        """
        until = time.monotonic() + PATIENCE_S
        while not path.exists():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"no {path.name}; the program has printed:\n{Path(self.output.name).read_text()}")
            time.sleep(pause)

    def kill(self, *, everything: bool) -> list[psutil.Process]:
        """SIGKILL; the other processes, without two agents of Ray's that only report, and end later."""
        others = [p for p in psutil.Process(self._process.pid).children(recursive=True) if "Agent" not in p.name()]
        for pid in [self._process.pid, *(p.pid for p in others if everything)]:
            os.kill(pid, signal.SIGKILL)
        self._process.wait()
        return others

    def end(self) -> int:
        """Wait for the end; the exit status."""
        return self._process.wait(timeout=PATIENCE_S)


def state_of(run: Path) -> str:
    """A description of the files after a kill."""
    found = []
    for folder in checkpoint_folders(run / "trial_00000"):
        reason = incomplete_reason(folder)
        if reason is not None:
            files = sum(path.is_file() for path in folder.rglob("*"))
            problem = reason.split("incomplete: ")[-1].split(". ")[0] if files else "empty"
            found.append(f"{folder.name} incomplete ({files} files; {problem.split(': ')[-1]})")
    newest = newest_complete(run / "trial_00000")
    assert newest is not None
    rows = read_progress(run / "progress.csv")
    found.append(f"{newest.name} complete, of iteration {training_progress(newest)['training_iteration']}")
    found.append(f"last iteration reported {rows[-1]['training_iteration']:.0f}")
    if not TuneState(run).complete():
        found.append("Tune's state damaged")
    return "; ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    print("| " + " | ".join(HEADER) + " |")
    print("|" + "---|" * len(HEADER), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "killed.yaml").write_text(CONFIG)
        run, trial = folder / "results" / "killed", folder / "results" / "killed" / "trial_00000"
        resume = ("--resume", "results/killed", "--episodes", "0")
        program = Program(folder, "killed.yaml")
        program.wait_for(trial / "checkpoint_000000")
        for number in range(1, arguments.kills + 1):
            # Of this start, the third checkpoint after those that are there now.
            last = int(checkpoint_folders(trial)[-1].name[-6:])
            target = trial / f"checkpoint_{last + moments.randint(2, 4):06}"
            copying, everything = number % 2 == 1, number % 4 in (0, 3)
            after = moments.uniform(0, 0.02) if copying else moments.uniform(0, 2)
            program.wait_for(target)
            time.sleep(after)
            others, killed = program.kill(everything=everything), time.monotonic()
            program = Program(folder, *resume)  # at once, while processes of the killed one may still be there
            _, alive = psutil.wait_procs(others, timeout=PATIENCE_S)
            gone = time.monotonic() - killed
            assert not alive, alive
            state, saved = state_of(run), training_progress(newest_complete(trial))["training_iteration"]

            new = trial / f"checkpoint_{int(checkpoint_folders(trial)[-1].name[-6:]) + 1:06}"
            program.wait_for(new)
            while incomplete_reason(new) is not None:
                time.sleep(0.01)
            resumed = training_progress(new)["training_iteration"] - 1
            rows = [row["training_iteration"] for row in read_progress(run / "progress.csv")]
            whole = resumed == saved and rows == list(range(1, len(rows) + 1))
            cells = (
                number,
                f"{after * 1000:.0f} ms after {target.name} appeared",
                "all processes" if everything else "the program",
                f"{gone:.1f} s",
                state,
                resumed,
                "continued; every iteration once in progress.csv" if whole else f"WRONG: {saved=}, {resumed=}, {rows=}",
            )
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        program.kill(everything=True)
        rows = read_progress(run / "progress.csv")
        steps = rows[0]["num_env_steps_sampled_lifetime"] * (len(rows) + 3)
        status = Program(folder, *resume, "--stop-steps", f"{steps:.0f}").end()
        rows = read_progress(run / "progress.csv")
        print(f"\nResumed once more with a stop criterion of {steps:.0f} steps: exit status {status}, ", end="")
        print(f"{rows[-1]['num_env_steps_sampled_lifetime']:.0f} steps in {len(rows)} iterations, ", end="")
        print(f"final checkpoint of iteration {training_progress(run / 'checkpoint')['training_iteration']}.")


if __name__ == "__main__":
    main()
