"""Which checkpoints of a trial are complete, and Tune's view of the trial brought in line with them.

Tune copies a checkpoint into the run's folder file by file, and writes down what it knows of a trial every ten seconds
at most. After a kill, the newest folder may be half full, and what Tune knows may be old: without the latest
checkpoints, or with some that are deleted by now.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rllib_multienv.checkpoints import check_complete, training_progress
from rllib_multienv.runs.tune_record import TuneRecord

logger = logging.getLogger(__name__)

_CHECKPOINT, _TRIAL = re.compile(r"checkpoint_(\d+)"), re.compile(r"trial_\d+")


@dataclass
class Recovered:
    """What :func:`recover` has found.

    Args:
        newest: The checkpoint that the trial goes on from; None where it begins anew.
        unknown: Whether Tune did not know of it.
        incomplete: The folders that are left out, and why.
    """

    newest: Path | None = None
    unknown: bool = False
    incomplete: dict[Path, str] = field(default_factory=dict)


def checkpoint_folders(trial: Path) -> list[Path]:
    """The checkpoint folders of a trial, complete or not, the oldest first."""
    return sorted((path for path in trial.glob("checkpoint_*") if _number(path) >= 0), key=_number)


def incomplete_reason(checkpoint: Path) -> str | None:
    """What is missing or changed in a checkpoint; None if it is complete."""
    try:
        check_complete(checkpoint)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def newest_complete(trial: Path) -> Path | None:
    """The newest complete checkpoint of a trial."""
    return next((path for path in reversed(checkpoint_folders(trial)) if incomplete_reason(path) is None), None)


def newest_saved_iteration(run: Path) -> float:
    """The iteration of the newest complete checkpoint of a run with one trial; 0 if there is none."""
    found = [newest for folder in run.glob("trial_*") if (newest := newest_complete(folder)) is not None]
    return max((training_progress(path).get("training_iteration", math.inf) for path in found), default=0)


def recover(trial: Any) -> Recovered:
    """Let a trial that Tune has restored, and not started yet, know the complete checkpoints in its folder.

    Its next checkpoint gets a number that no folder has: nothing is written over, and what a process of the killed run
    may still be writing stays apart.

    Args:
        trial: Tune's trial, of an algorithm of this package.
    """
    from ray.train._internal.session import _TrainingResult
    from ray.tune import Checkpoint

    folder = Path(trial.path)
    found = checkpoint_folders(folder)
    reasons = {path: incomplete_reason(path) for path in found}
    complete = [path for path in found if reasons[path] is None]
    recovered = Recovered(incomplete={path: reason for path, reason in reasons.items() if reason is not None})
    trial.storage.current_checkpoint_index = max(map(_number, found), default=-1)
    trial.invalidate_json_state()

    known = trial.run_metadata.checkpoint_manager
    latest = known.latest_checkpoint_result
    before = Path(latest.checkpoint.path) if latest else None
    if before is not None and before.parent != folder and incomplete_reason(before) is None:
        recovered.newest = before  # population-based training has put another trial's agent here
        return recovered
    metrics = {
        Path(r.checkpoint.path): r.metrics for r in [*known.best_checkpoint_results, *([latest] if latest else [])]
    }
    # A new manager: it deletes what is more than `num_to_keep`, and never the newest.
    trial.run_metadata.checkpoint_manager = type(known)(known.checkpoint_config)
    for path in complete:
        trial.run_metadata.checkpoint_manager.register_checkpoint(
            _TrainingResult(
                checkpoint=Checkpoint(path=str(path), filesystem=trial.storage.storage_filesystem),
                metrics=metrics.get(path) or training_progress(path),
            )
        )
    recovered.newest = complete[-1] if complete else None
    recovered.unknown = recovered.newest != before
    return recovered


def resumable_trials(run: Path) -> dict[str, str]:
    """The trials of a run that Tune can resume: names of their folders by id.

    Folders of other trials, which Tune would give to new ones, are renamed.

    Raises:
        ValueError: Tune can resume nothing, but there are checkpoints.
    """
    trials = TuneRecord(run).mend()
    unknown = [path for path in sorted(run.glob("trial_*")) if path.name not in trials.values() and path.is_dir()]
    for folder in unknown:
        newest = newest_complete(folder)
        if newest is not None and not trials:
            raise ValueError(
                f"Tune's record of the run in {str(run)!r} is damaged: it cannot be resumed. Its checkpoint "
                f"{str(newest)!r} is complete; 'multienv transfer' trains on from its agent."
            )
    for folder in unknown:
        if _TRIAL.fullmatch(folder.name):
            number = 1
            while (aside := folder.with_name(f"{folder.name}.lost-{number}")).exists():
                number += 1
            logger.warning("Tune knows nothing of the trial in %s, which is kept as %s.", folder, aside.name)
            folder.rename(aside)
    return trials


def _number(checkpoint: Path) -> int:
    match = _CHECKPOINT.fullmatch(checkpoint.name)
    return int(match[1]) if match and checkpoint.is_dir() else -1
