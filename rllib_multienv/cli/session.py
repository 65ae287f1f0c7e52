"""One `tune.Tuner` run with a live display, metrics on disk, and an interrupt that saves a checkpoint.

Tune runs every trial in its own process; a Tune callback in this process, the driver, receives their results.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.result import SHOULD_CHECKPOINT
from tensorboardX import SummaryWriter

from rllib_multienv.algorithms.multi_env_algorithm import MultiEnvAlgorithm
from rllib_multienv.atomic_files import write_json
from rllib_multienv.checkpoints import training_progress
from rllib_multienv.cli.display import Display, TrialStatus
from rllib_multienv.cli.terminal import failure_reason
from rllib_multienv.config_files import ConfigFile, build_tuner
from rllib_multienv.config_files.build import algorithm_class
from rllib_multienv.evaluation.progress import ProgressWriter, flatten_result, in_order
from rllib_multienv.runs.folder import RunFolder
from rllib_multienv.runs.resume import TuneState, own_staging_folder, recover, resumable_trials
from rllib_multienv.runs.search import Metric, drawn_values, merged, return_ranges

logger = logging.getLogger(__name__)

# Tune pickles its callbacks and stop criteria and restores them when a run is resumed. Objects of this process (the
# screen, open files, criteria changed on the command line) must not go with them: both stand for the session that is
# active in the process.
_active: Session | None = None


def _active_session() -> tune.Callback:
    return _active or tune.Callback()


def session_stop(trial_id: str, result: dict[str, Any]) -> bool:
    """Tune's stop function: the criteria of the active session."""
    return _active is not None and _active.file.stop(trial_id, result)


class Outcome(NamedTuple):
    """The end of a run.

    Args:
        trials: All trials by name.
        errors: Why trials failed, by name.
        interrupted: Whether the user stopped it before it was done.
    """

    trials: dict[str, TrialStatus]
    errors: dict[str, str]
    interrupted: bool


@dataclass(eq=False)
class Session(tune.Callback):
    """The run as the driver sees it, from the events that Tune calls it with.

    Args:
        file: The configuration.
        folder: The run's folder.
        display: Where the run is shown.
        env_ids: The environments in the order of the file, in which they are shown.
        resumed: The trials that Tune should resume: names of their folders by id.
    """

    file: ConfigFile
    folder: RunFolder
    display: Display
    env_ids: Sequence[str] = ()
    resumed: Mapping[str, str] = field(default_factory=dict)
    interrupted: bool = False
    trials: dict[str, TrialStatus] = field(default_factory=dict)
    _writers: dict[str, tuple[ProgressWriter, SummaryWriter]] = field(default_factory=dict)
    _saved: set[str] = field(default_factory=set)
    _announced: bool = False
    _leaving: bool = False
    _begun: bool = False
    _incomplete: dict[str, list[Path]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._tune_state = TuneState(self.folder.path)
        self._metric = Metric.of(self.file)

    def __reduce__(self) -> tuple[Any, ...]:
        return _active_session, ()

    @property
    def single(self) -> bool:
        """Whether the file asks for one trial; its metrics are then in the run's folder itself."""
        return self.file.single

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict, **info: Any) -> None:
        """A trial reported a result; after an interrupt, ask Tune for a checkpoint."""
        row = in_order(flatten_result(result), self.env_ids)
        name = str(trial)
        status = self.status(name, trial.config, before=row.get("training_iteration", math.inf))
        status.update(row)
        progress, board = self._writers_of(name)
        progress.write(row)
        for key, value in row.items():
            if math.isfinite(value):  # the mean over no episodes is NaN
                board.add_scalar(key, value, global_step=status.steps)
        board.flush()
        self.display.update(self.trials, name)
        if self.interrupted:
            result[SHOULD_CHECKPOINT] = True
            self.display.message("saving a checkpoint")

    def on_checkpoint(self, iteration: int, trials: list[Any], trial: Any, checkpoint: Any, **info: Any) -> None:
        """A trial saved a checkpoint."""
        status = self.status(str(trial), trial.config)
        status.checkpoint = checkpoint.path
        if self.single:
            self.folder.link_checkpoint(Path(checkpoint.path))
        self._keep_if_best(status)
        for folder in self._incomplete.pop(trial.trial_id, []):
            shutil.rmtree(folder, ignore_errors=True)
        if self.interrupted:
            self._saved.add(trial.trial_id)

    def _keep_if_best(self, status: TrialStatus) -> None:
        best = self.folder.best()
        if self._metric.key is None and best.get("evaluated") != status.evaluated:
            best = {}  # returns of training and of evaluation are not compared
        before = best.get("returns", {})
        ranges = merged([return_ranges([before]), *(trial.ranges for trial in self.trials.values())])
        value = self._metric.value(status.latest, status.returns, ranges)
        old = best.get("metric") if self._metric.key else self._metric.value({}, before, ranges)
        if value is None or not self._metric.better(value, old) or not Path(status.checkpoint or "").is_dir():
            return
        note = {"trial": status.name, "iteration": status.iteration, "metric": value, "returns": status.returns}
        note["evaluated"] = status.evaluated
        try:
            self.folder.keep_best(Path(str(status.checkpoint)), note)
        except OSError as error:
            logger.warning("The best checkpoint was not kept: %s", error)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Before Tune starts the trials of a resumed run, make them resume from their newest complete checkpoints.

        Raises:
            ValueError: Tune has not restored them; it would start anew, over the checkpoints that are there.
        """
        if self._begun:
            return
        self._begun = True
        if not self.resumed.keys() <= {trial.trial_id for trial in trials}:
            raise ValueError("Tune could not resume the run; the log says why. The checkpoints are untouched.")
        if not issubclass(algorithm_class(self.file), MultiEnvAlgorithm):
            return
        for trial in trials:
            if not trial.is_finished():
                self._recover(trial)

    def _recover(self, trial: Any) -> None:
        recovered = recover(trial)
        self._incomplete[trial.trial_id] = [*recovered.incomplete]
        for folder, reason in recovered.incomplete.items():
            logger.warning("%s is left out. %s", folder, reason)
            self.display.message(f"{folder.name} of {trial} is incomplete and left out", lasting=True)
        if recovered.newest is None:
            self.display.message(f"{trial} has no complete checkpoint: it starts anew", lasting=True)
            return
        iteration = training_progress(recovered.newest).get("training_iteration", math.inf)
        self.status(str(trial), trial.config, before=iteration + 1).checkpoint = str(recovered.newest)
        if self.single:
            self.folder.link_checkpoint(recovered.newest)
        if recovered.incomplete or recovered.unknown:
            self.display.message(f"{trial} resumes from {recovered.newest.name}, iteration {iteration}", lasting=True)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """End Tune's loop after an interrupt, once every running trial has saved a checkpoint.

        On the signal below Tune leaves the loop and keeps the trials as unfinished, so that they can be resumed; a stop
        criterion would mark them as done.
        """
        if self.interrupted and not self._announced:
            self._announced = True
            self.display.message(
                "stopping: saving a checkpoint after this iteration (once more to stop at once)", lasting=True
            )
        running = [trial for trial in trials if trial.status == Trial.RUNNING]
        if self.interrupted and not self._leaving and all(trial.trial_id in self._saved for trial in running):
            self._leaving = True
            os.kill(os.getpid(), signal.SIGUSR1)
        self._tune_state.keep_copy()

    def interrupt(self) -> None:
        """Ask for an end after the current iteration, with a checkpoint.

        This runs in a signal handler, possibly in the middle of a print, and therefore prints nothing.
        """
        self.interrupted = True

    def close(self) -> None:
        """Close the files."""
        for _, board in self._writers.values():
            board.close()

    def status(self, name: str, config: Mapping[str, Any], before: float = math.inf) -> TrialStatus:
        """The status of a trial, with the rows of an earlier run up to, and without, the iteration ``before``.

        Args:
            name: The trial's name.
            config: Its configuration.
            before: An iteration.
        """
        if name not in self.trials:
            self.trials[name] = TrialStatus(name, self.file.stop)
            self.trials[name].replay(self.folder.metrics(name, single=self.single), before)
        status = self.trials[name]
        params = drawn_values(self.file, config)
        if params != status.params:  # new, or changed by population-based training
            status.params = params
            self.folder.params(name).parent.mkdir(parents=True, exist_ok=True)
            write_json(self.folder.params(name), params)
        return status

    def _writers_of(self, name: str) -> tuple[ProgressWriter, SummaryWriter]:
        if name not in self._writers:
            file = self.folder.metrics(name, single=self.single)
            file.parent.mkdir(parents=True, exist_ok=True)
            board = SummaryWriter(logdir=str(file.parent), purge_step=self.trials[name].steps)
            self._writers[name] = ProgressWriter(file), board
        return self._writers[name]


def run_session(file: ConfigFile, config: Any, folder: RunFolder, display: Display, *, resume: bool) -> Outcome:
    """Run `file` in `folder`, to its end or until an interrupt.

    Args:
        file: The configuration.
        config: That of one trial, as RLlib has it.
        folder: The run's folder.
        display: Where to show the run.
        resume: Resume the run that is in the folder, from its latest checkpoints.

    Raises:
        ValueError: Tune has nothing to resume from, and a new start would destroy checkpoints.
        KeyboardInterrupt: On a second interrupt, while the first one's checkpoint is being saved.
    """
    global _active
    trials = resumable_trials(folder.path) if resume else {}
    # RLlib's results do not keep the order of the environments.
    env_ids = [spec.id for spec in getattr(config, "env_specs", ())]
    session = Session(file, folder, display, env_ids, resumed=trials)
    restore = _environment(
        # Our handler asks for a checkpoint first, and our files have a column for every key.
        TUNE_DISABLE_SIGINT_HANDLER="1",
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
        # Relative paths in a file start at the user's current folder.
        RAY_CHDIR_TO_TRIAL_DIR="0",
        RAY_USAGE_STATS_ENABLED="0",
    )
    with restore, _local_ray(config), own_staging_folder(), _signals(session.interrupt):
        _active = session
        try:
            # A run that was stopped before Tune saved anything starts anew.
            if trials:
                tuner = tune.Tuner.restore(
                    str(folder.path),
                    trainable=algorithm_class(file),
                    _resume_config=_resume_config(session.single),
                )
            else:
                loggers = [logger for logger in file.tune.get("loggers") or [] if logger != "tensorboard"]
                tuner = build_tuner(
                    file.override("tune.loggers", loggers),  # the session writes TensorBoard's files
                    name=folder.path.name,
                    storage_path=folder.path.parent,
                    callbacks=[session],
                    stop=session_stop,
                )
            grid = tuner.fit()
        finally:
            _active = None
            session.close()
    errors = {}
    for result in grid:
        name = Path(result.path).name
        # Trials that had ended before the run was resumed reported nothing.
        status = session.status(name, result.config or {})
        if status.checkpoint is None and result.checkpoint is not None:
            status.checkpoint = result.checkpoint.path
        if result.error is not None:
            errors[name] = failure_reason(result.error)
    return Outcome(session.trials, errors, session.interrupted)


def _resume_config(single: bool) -> tune.ResumeConfig:
    kinds = tune.ResumeConfig.ResumeType
    # A single trial that has reached its criteria resumes when it is given later ones.
    return tune.ResumeConfig(
        finished=kinds.RESUME if single else kinds.SKIP, unfinished=kinds.RESUME, errored=kinds.RESUME
    )


def check_gpus(config: Any) -> None:
    """Check that this machine has the GPUs that a trial of `config` asks for.

    Ray does not start a trial before it has all its resources, and says so only in its log. CPUs are no problem: Ray
    counts them and does not bind processes to them, so the command line lets it count enough. A cluster given by
    ``RAY_ADDRESS`` may grow and is not checked.

    Raises:
        ValueError: There are too few GPUs.
    """
    import torch

    if os.environ.get("RAY_ADDRESS") or ray.is_initialized():
        return
    needed, available = _needed(config, "GPU"), torch.cuda.device_count()
    if needed > available:
        raise ValueError(
            f"the file asks for {needed:g} GPUs and this machine has {available}; "
            "--set learners.num_gpus_per_learner=0 trains without any"
        )


def _needed(config: Any, resource: str) -> float:
    """What all processes of a trial need of a resource."""
    return sum(bundle.get(resource, 0) for bundle in config.algo_class.default_resource_request(config).bundles)


@contextmanager
def _local_ray(config: Any) -> Iterator[None]:
    """Start Ray unless it runs already, with room for at least one trial.

    Ray counts CPUs and does not bind processes to them. A trial with more processes than the machine has cores is slow
    but works; without this it would wait for ever.

    Raises:
        TimeoutError: The machine is too busy for Ray to start.
    """
    if ray.is_initialized():
        yield
        return
    try:
        if os.environ.get("RAY_ADDRESS"):
            ray.init(log_to_driver=True)
        else:
            ray.init(
                "local",  # not a cluster that happens to run on this machine, whose number of CPUs is fixed
                num_cpus=max(os.cpu_count() or 1, math.ceil(_needed(config, "CPU"))),
                include_dashboard=False,
                log_to_driver=True,
            )
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
        raise TimeoutError("Ray did not start within its 30 s: this machine is too busy. Try again.") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _signals(interrupt: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM calls `interrupt`, the second one raises `KeyboardInterrupt`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    calls = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise KeyboardInterrupt
        interrupt()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    # Tune sets its own handler for this signal, which makes it leave its loop.
    before[signal.SIGUSR1] = signal.getsignal(signal.SIGUSR1)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables, except those that the user has set."""
    new = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)
