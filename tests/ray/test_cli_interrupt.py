"""Ctrl-C saves a checkpoint, and --resume continues from it."""

from __future__ import annotations

from pathlib import Path

from cli_helpers import TINY, call_cli, interrupt_cli

from rllib_multienv.evaluation.progress import read_progress


def test_an_interrupted_run_is_saved_resumed_and_extended(ray_cluster: None, tmp_path: Path) -> None:
    file = tmp_path / "long.yaml"
    file.write_text(TINY.replace("training_iteration: 4", "training_iteration: 100000"))
    progress = tmp_path / "results" / "long" / "progress.csv"

    # Interrupted: the checkpoint is of the last iteration, and the exit status says that it was no full run.
    status, output = interrupt_cli("train", file, cwd=tmp_path, when="iteration")
    assert status == 130, output
    assert "saving a checkpoint" in output
    assert "resume with: multienv train --resume results/long" in output
    checkpoint = next(line.split()[1] for line in output.splitlines() if line.startswith("checkpoint "))
    assert (tmp_path / checkpoint / "rllib_checkpoint.json").is_file()
    before = read_progress(progress)

    # Resumed: steps and iterations continue, nothing is done twice or left out.
    last = before[-1]
    steps = int(last["num_env_steps_sampled_lifetime"])
    per_iteration = steps // int(last["training_iteration"])
    until = steps + 2 * per_iteration
    resume = ("train", "--resume", "results/long", "--episodes", 0)
    done = call_cli(*resume, "--stop-steps", until, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read_progress(progress)
    assert [row["training_iteration"] for row in rows] == list(range(1, len(before) + 3))
    assert rows[: len(before)] == before
    assert rows[-1]["num_env_steps_sampled_lifetime"] == until
    assert rows[-1]["time_total_s"] > before[-1]["time_total_s"]

    # Done: it does not train again by mistake, but continues with a later stop criterion.
    again = call_cli(*resume, cwd=tmp_path)
    assert again.returncode == 1
    assert "is done: num_env_steps_sampled_lifetime" in again.stderr
    later = call_cli(*resume, "--stop-time", 10**9, cwd=tmp_path)  # the other criterion, which was not reached
    assert "is done: num_env_steps_sampled_lifetime" in later.stderr and "give a later --stop-steps" in later.stderr
    further = call_cli(*resume, "--stop-steps", until + per_iteration, cwd=tmp_path)
    assert further.returncode == 0, further.stdout + further.stderr
    assert len(read_progress(progress)) == len(before) + 3
