"""What a killed run has left is sorted: complete checkpoints, incomplete ones, and Tune's record of the run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import TINY
from ray.tune import Checkpoint, CheckpointConfig
from ray.tune.experiment import Trial

from rllib_multienv import AgnosticNetConfig
from rllib_multienv.checkpoints import (
    AgentCheckpoint,
    check_complete,
    find_checkpoint,
    newest_complete,
    read_checkpoint,
    training_progress,
)
from rllib_multienv.cli.session import Session
from rllib_multienv.cli.training import Resumed, resumed
from rllib_multienv.config_files.file import load_config_file
from rllib_multienv.config_files.yaml_text import ConfigFileError
from rllib_multienv.runs import resume
from rllib_multienv.runs.folder import RunFolder
from rllib_multienv.runs.resume import TuneState, newest_saved_iteration, recover, resumable_trials


def make_checkpoint(folder: Path, iteration: int) -> Path:
    (folder / "learner").mkdir(parents=True)
    (folder / "learner" / "state.pkl").write_text(f"state of iteration {iteration}")
    agent = AgentCheckpoint(
        space_specs={}, env_specs={}, network=AgnosticNetConfig(), obs_moments={}, reward_moments={}, weights={}
    )
    agent.write(folder, training={"training_iteration": iteration, "time_total_s": float(iteration)})
    return folder


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def make_trial(run: Path, known: dict[str, int], num_to_keep: int | None = 3) -> Trial:
    """A trial as Tune restores it, which knows of some checkpoints."""
    from ray.train._internal.session import _TrainingResult
    from ray.train._internal.storage import StorageContext

    storage = StorageContext(str(run.parent), run.name, trial_dir_name="trial_00000")
    storage.current_checkpoint_index = len(known) - 1
    trial = Trial("x", stub=True, storage=storage, checkpoint_config=CheckpointConfig(num_to_keep=num_to_keep))
    for name, iteration in known.items():
        trial.run_metadata.checkpoint_manager.register_checkpoint(
            _TrainingResult(
                checkpoint=Checkpoint.from_directory(str(run / "trial_00000" / name)),
                metrics={"training_iteration": iteration, "of": "Tune"},
            )
        )
    return trial


def test_every_damage_of_a_checkpoint_is_found(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint", 7)
    check_complete(folder)
    assert training_progress(folder) == {"training_iteration": 7, "time_total_s": 7.0}
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        before = file.read_bytes()
        for after, reason in ((None, "is missing|has no file"), (before[:-1], r"has \d+ of \d+ bytes|is damaged")):
            file.unlink()
            if after is not None:
                file.write_bytes(after)
            with pytest.raises(ValueError, match=reason):
                check_complete(folder)
            file.write_bytes(before)
        if file.suffix != ".json":
            file.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
            with pytest.raises(ValueError, match="is not what was written"):
                check_complete(folder)
            file.write_bytes(before)
    check_complete(folder)


def test_an_agent_needs_its_own_two_files_only(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "checkpoint", 7)
    (folder / "learner" / "state.pkl").unlink()
    read_checkpoint(folder)
    truncate(folder / "multienv_network.pt")
    read_checkpoint(folder, weights=False)
    with pytest.raises(ValueError, match=r"incomplete: multienv_network\.pt"):
        read_checkpoint(folder)


def test_a_trial_goes_on_from_the_newest_complete_checkpoint_that_tune_knows_or_not(tmp_path: Path) -> None:
    run = tmp_path / "run"
    folder = run / "trial_00000"
    made = [make_checkpoint(folder / f"checkpoint_{i:06}", i + 1) for i in range(5)]
    truncate(made[4] / "learner" / "state.pkl")
    trial = make_trial(run, {"checkpoint_000000": 1, "checkpoint_000001": 2})
    recovered = recover(trial)
    assert recovered.newest == made[3] and recovered.unknown and list(recovered.incomplete) == [made[4]]
    latest = trial.latest_checkpoint_result
    assert latest.checkpoint.path == str(made[3])
    assert latest.metrics == {"training_iteration": 4, "time_total_s": 4.0}
    kept = [result.metrics for result in trial.run_metadata.checkpoint_manager.best_checkpoint_results]
    assert [metrics["training_iteration"] for metrics in kept] == [2, 3, 4]
    assert kept[0]["of"] == "Tune" and not made[0].exists()
    assert trial.storage.checkpoint_dir_name == "checkpoint_000004"  # counted up before the next one is written


def test_what_tune_knows_may_be_deleted_or_damaged(tmp_path: Path) -> None:
    run = tmp_path / "run"
    made = [make_checkpoint(run / "trial_00000" / f"checkpoint_{i:06}", i + 1) for i in (2, 3)]
    known = {f"checkpoint_{i:06}": i + 1 for i in range(4)}
    (made[1] / "multienv.json").unlink()
    recovered = recover(make_trial(run, known, num_to_keep=None))
    assert recovered.newest == made[0] and recovered.unknown
    (made[0] / "multienv.json").unlink()
    trial = make_trial(run, known, num_to_keep=None)
    assert recover(trial).newest is None and trial.checkpoint is None
    assert trial.storage.checkpoint_dir_name == "checkpoint_000003"


def test_the_agent_of_another_trial_stays(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_checkpoint(run / "trial_00000" / "checkpoint_000000", 1)
    other = make_checkpoint(run / "trial_00001" / "checkpoint_000005", 6)
    trial = make_trial(run, {"../trial_00001/checkpoint_000005": 6})
    trial.run_metadata.checkpoint_manager.latest_checkpoint_result.checkpoint = Checkpoint.from_directory(str(other))
    recovered = recover(trial)
    assert recovered.newest == other and not recovered.unknown
    assert trial.storage.checkpoint_dir_name == "checkpoint_000000"


def test_a_run_stands_for_its_newest_complete_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    made = [make_checkpoint(tmp_path / "trial_00000" / f"checkpoint_{i:06}", i + 1) for i in range(3)]
    assert find_checkpoint(tmp_path) == made[2] and newest_saved_iteration(tmp_path) == 3
    (tmp_path / "checkpoint").symlink_to("trial_00000/checkpoint_000002")
    truncate(made[2] / "multienv.json")
    assert find_checkpoint(tmp_path) == made[1] == newest_complete(tmp_path / "trial_00000")
    assert newest_saved_iteration(tmp_path) == 2


def test_a_run_is_done_once_its_end_is_saved(tmp_path: Path) -> None:
    """Not when the last result is reported: a kill may come before its checkpoint."""
    folder = RunFolder(tmp_path)
    folder.write_config(TINY)
    assert RunFolder.existing(tmp_path / "trial_00000" / "checkpoint_000000") == folder
    with pytest.raises(FileNotFoundError, match=r"nowhere is not the folder of a run: it has no config\.yaml"):
        RunFolder.existing(tmp_path / "a" / "b" / "nowhere")
    folder.progress.write_text("training_iteration\r\n1\r\n2\r\n3\r\n4\r\n", newline="")
    make_checkpoint(tmp_path / "trial_00000" / "checkpoint_000000", 3)
    assert not left(folder).trained
    last = make_checkpoint(tmp_path / "trial_00000" / "checkpoint_000001", 4)
    with pytest.raises(ConfigFileError, match="is done: training_iteration"):
        left(folder)
    shutil.rmtree(last)
    write_record(tmp_path, "2000", "TERMINATED")  # a run that saves nothing at its end
    with pytest.raises(ConfigFileError, match="is done: training_iteration"):
        left(folder)


def left(folder: RunFolder, *, episodes: int = 0) -> Resumed:
    return resumed(folder, stop_steps=None, stop_time=None, episodes=episodes)


def test_the_evaluation_is_left_where_a_run_ended_before_it(tmp_path: Path) -> None:
    """For instance by a signal that came with the last iteration: Tune then keeps the trial as unfinished."""
    folder = RunFolder(tmp_path)
    folder.write_config(TINY)
    folder.progress.write_text("training_iteration\r\n4\r\n", newline="")
    make_checkpoint(tmp_path / "trial_00000" / "checkpoint_000000", 4)
    write_record(tmp_path, "2000", "PAUSED")
    assert left(folder, episodes=20).trained
    folder.evaluation.touch()
    with pytest.raises(ConfigFileError, match="is done: training_iteration >= 4; to train on, change 'stop' in "):
        left(folder, episodes=20)


def test_a_search_is_done_once_all_trials_have_ended(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config(TINY.replace("num_epochs: 1", "num_epochs: !choice [1, 2]"))
    write_record(tmp_path, "2000", "RUNNING")
    assert not left(folder, episodes=20).trained
    write_record(tmp_path, "2000", "TERMINATED")
    assert left(folder, episodes=20).trained
    folder.evaluation.touch()
    with pytest.raises(ConfigFileError, match="is done: all trials have ended"):
        left(folder, episodes=20)


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TuneState:
    """The record of a run with two trials, and its copy."""
    monkeypatch.setattr(resume, "_COPY_INTERVAL_S", 0.0)
    monkeypatch.setattr(resume, "_QUIET_S", 0.0)
    write_record(tmp_path, "2000", "RUNNING")
    record = TuneState(tmp_path)
    record.keep_copy()
    return record


def write_record(run: Path, start: str, status: str, first: int = 0) -> None:
    trials: list[Any] = [
        [json.dumps({"trial_id": f"ab_{i:05}", "relative_logdir": f"trial_{i:05}", "status": status}), "{}"]
        for i in range(first, first + 2)
    ]
    (run / f"experiment_state-{start}.json").write_text(json.dumps({"trial_data": trials}))
    (run / f"basic-variant-state-{start}.json").write_bytes(pickle.dumps({"a": start}))
    (run / "tuner.pkl").write_bytes(pickle.dumps({"b": 1}))


TRIALS = {"ab_00000": "trial_00000", "ab_00001": "trial_00001"}


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("how", [truncate, empty])
@pytest.mark.parametrize("file", ["experiment_state-2000.json", "basic-variant-state-2000.json", "tuner.pkl"])
def test_a_damaged_record_is_mended(record: TuneState, tmp_path: Path, file: str, how: Any) -> None:
    before = (tmp_path / file).read_bytes()
    how(tmp_path / file)
    assert record.repair() == TRIALS
    assert (tmp_path / file).read_bytes() == before
    assert record.repair() == TRIALS


def test_a_start_that_was_cut_off_does_not_count(record: TuneState, tmp_path: Path) -> None:
    write_record(tmp_path, "2001", "RUNNING", first=7)
    truncate(tmp_path / "basic-variant-state-2001.json")
    record.keep_copy()  # takes no damaged one
    assert record.repair() == TRIALS
    assert not (tmp_path / "experiment_state-2001.json").exists()


def test_the_copy_follows_the_record(record: TuneState, tmp_path: Path) -> None:
    assert not record.finished()
    write_record(tmp_path, "2001", "TERMINATED")
    record.keep_copy()
    (tmp_path / "experiment_state-2001.json").write_text("")
    assert not record.finished()
    assert record.repair() == TRIALS and record.finished()
    assert sorted(os.listdir(tmp_path / ".tune_record")) == [
        "basic-variant-state-2001.json",
        "experiment_state-2001.json",
        "tuner.pkl",
    ]


def test_no_copy_is_made_while_the_record_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "_COPY_INTERVAL_S", 0.0)
    write_record(tmp_path, "2000", "RUNNING")
    record = TuneState(tmp_path)
    record.keep_copy()
    assert not (tmp_path / ".tune_record").exists()
    time.sleep(0.3)
    record.keep_copy()
    assert (tmp_path / ".tune_record").is_dir()


def test_a_run_that_tune_has_not_resumed_does_not_begin_anew(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config(TINY)
    session = Session(load_config_file(folder.config), folder, display=None, resumed=TRIALS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Tune could not resume the run"):
        session.on_step_begin(0, [])


def test_nothing_complete_is_given_to_a_new_trial(tmp_path: Path) -> None:
    assert resumable_trials(tmp_path) == {}
    (tmp_path / "trial_00000" / "checkpoint_000000").mkdir(parents=True)
    assert resumable_trials(tmp_path) == {}  # it begins anew; the half-written checkpoint is out of the way
    assert os.listdir(tmp_path) == ["trial_00000.lost-1"]
    checkpoint = make_checkpoint(tmp_path / "trial_00000" / "checkpoint_000001", 1)
    with pytest.raises(ValueError, match=r"state of the run .* is damaged"):
        resumable_trials(tmp_path)
    check_complete(checkpoint)
    write_record(tmp_path, "2000", "RUNNING", first=1)
    assert resumable_trials(tmp_path).keys() == {"ab_00001", "ab_00002"}
    assert sorted(path.name for path in tmp_path.glob("trial_*")) == ["trial_00000.lost-1", "trial_00000.lost-2"]
