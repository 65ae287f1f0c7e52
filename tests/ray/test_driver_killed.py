"""SIGKILL at random moments, many of them in the middle of a checkpoint: a complete one is always there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import ROOT, TINY, command, environment, run_cli
from processes import below, kill_all, wait_until_gone

from rllib_multienv import MultiEnvAgent
from rllib_multienv.checkpoints import check_complete, checkpoint_folders, newest_complete, training_progress
from rllib_multienv.evaluation.progress import read_progress
from rllib_multienv.runs.resume import newest_saved_iteration

KILLS = 10


@pytest.mark.long
def test_ten_kills_of_a_process_that_saves_to_the_same_path(tmp_path: Path) -> None:
    path = tmp_path / "saved" / "checkpoint"
    moments = random.Random(0)
    program = subprocess.Popen(
        [sys.executable, "-W", "ignore", ROOT / "tests" / "helpers" / "save_in_a_loop.py", path],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def ask(what: str) -> int:
        program.stdin.write(what + "\n")
        program.stdin.flush()
        return int(program.stdout.readline())

    try:
        assert program.stdout.readline() == "ready\n"
        iterations, hits, earlier = [1], 0, set()
        for _ in range(KILLS):
            process = ask("go")
            time.sleep(moments.uniform(0, 0.6))
            os.kill(process, signal.SIGKILL)
            left = {name for name in os.listdir(path.parent) if name != path.name}
            hits += bool(left - earlier)
            earlier = left

            check_complete(path)
            agent = MultiEnvAgent.from_checkpoint(path)
            assert agent.act("CartPole-v1", np.zeros(4, np.float32)) in (0, 1)
            iterations.append(training_progress(path)["training_iteration"])
        print(f"{hits} of {KILLS} kills while a checkpoint was written; iterations saved: {iterations}")
        assert iterations == sorted(iterations) and iterations[-1] > 1
        assert hits > 0
        assert ask("load") == iterations[-1] + 1
    finally:
        program.stdin.close()
        kill_all([program.pid, *below(program.pid)])
        program.wait()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(
        TINY.replace("training_iteration: 4", "training_iteration: 100000").replace("d_model: 16", "d_model: 8")
        + "tune: {checkpoint_config: {checkpoint_frequency: 1, num_to_keep: 2}}\n"
    )
    return tmp_path / "results" / "tiny"


def kill(run: Path, arguments: tuple[str, ...], after: float, *, everything: bool) -> None:
    """Starts a command, and kills it this long after its third checkpoint: its driver, or all its processes."""
    last = max((int(folder.name[-6:]) for folder in checkpoint_folders(run / "trial_00000")), default=-1)
    with open(run.parents[1] / "output.txt", "w+") as output:
        process = subprocess.Popen(
            command(*arguments), cwd=run.parents[1], env=environment(), stdout=output, stderr=subprocess.STDOUT
        )
        try:
            until = time.monotonic() + 180
            while not (run / "trial_00000" / f"checkpoint_{last + 3:06}").exists():
                assert process.poll() is None and time.monotonic() < until, Path(output.name).read_text()
                time.sleep(0.02)
            time.sleep(after)
            others = below(process.pid)
            kill_all([process.pid, *(others if everything else [])])
        finally:
            process.kill()
            process.wait()
    # Ray's processes end with the driver; its two agents, which only report, a little later.
    names = {pid: Path(f"/proc/{pid}/cmdline") for pid in others}
    wait_until_gone([pid for pid in others if "Agent" not in _text(names[pid])], timeout=30)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


@pytest.mark.parametrize("killed", [("driver",), pytest.param(("driver", "all"), marks=pytest.mark.long)], ids=len)
def test_a_killed_run_goes_on_from_its_newest_complete_checkpoint(
    run: Path, killed: tuple[str, ...], programs_on_the_cluster: None
) -> None:
    arguments: tuple[str, ...] = ("train", "tiny.yaml")
    for number, which in enumerate(killed):
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("RAY_ADDRESS")  # its Ray ends with it
            kill(run, arguments, 0.1 + 0.3 * number, everything=which == "all")
        arguments = ("train", "--resume", "results/tiny")
        # The newest checkpoint is damaged, and what Tune has written of the run.
        damaged = newest_complete(run / "trial_00000")
        for file in (damaged / "learner_group" / "learner" / "state.pkl", *run.glob("experiment_state-*.json")):
            file.write_bytes(file.read_bytes()[:1000])
        saved = newest_saved_iteration(run)
        assert 0 < saved < training_progress(damaged)["training_iteration"]

    steps = 256 * (saved + 3)
    done = run_cli(*arguments, "--stop-steps", int(steps), "--episodes", 0, cwd=run.parents[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{damaged.name} of trial_00000 is incomplete and left out" in done.stdout
    assert not damaged.exists()  # gone, now that there are newer ones
    rows = read_progress(run / "progress.csv")
    assert [row["training_iteration"] for row in rows] == list(range(1, int(saved) + 4))
    seconds = [row["time_total_s"] for row in rows]
    assert seconds == sorted(seconds)
    assert rows[-1]["num_env_steps_sampled_lifetime"] == steps
    check_complete(run / "checkpoint")
    assert training_progress(run / "checkpoint")["training_iteration"] == saved + 3
