"""What is shown of a run: the table's numbers, and the time that is left."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rllib_multienv.cli.display import Display, TrialStatus, environment_table
from rllib_multienv.cli.terminal import duration, number
from rllib_multienv.config_files.stopping import StopCriteria
from rllib_multienv.runs.search import Metric


def row(iteration: int, value: float) -> dict[str, float]:
    return {
        "training_iteration": iteration,
        "time_total_s": 2.0 * iteration,
        "num_env_steps_sampled_lifetime": 1000 * iteration,
        "env_runners/num_module_steps_sampled_lifetime/A": 1000 * iteration,
        "env_runners/module_episode_return_mean/A": value,
        "learners/A/policy_loss": -0.5,
        "learners/A/vf_loss": 0.25,
    }


@pytest.fixture
def trial() -> TrialStatus:
    trial = TrialStatus("trial", StopCriteria.of({"num_env_steps_sampled_lifetime": 10_000}))
    for iteration, value in enumerate((1.0, 9.0, 5.0), start=1):
        trial.update(row(iteration, value))
    return trial


def test_last_and_best_return_are_kept_apart(trial: TrialStatus) -> None:
    env = trial.envs["A"]
    assert (env.last, env.best, env.steps, env.policy_loss, env.vf_loss) == (5.0, 9.0, 3000, -0.5, 0.25)


def test_speed_and_time_left_follow_from_the_training_time(trial: TrialStatus) -> None:
    assert trial.steps_per_second == pytest.approx(500)
    assert trial.seconds_left() == pytest.approx(14, abs=0.5)


def test_an_iteration_without_an_episode_keeps_the_last_return(trial: TrialStatus) -> None:
    trial.update(row(4, float("nan")))
    assert trial.envs["A"].last == 5.0


def test_the_table_shows_every_environment(trial: TrialStatus) -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(environment_table(trial))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for cell in ("A", "3,000", "5.00", "9.00", "-0.500", "0.250", "500"):
        assert cell in text


def test_without_a_terminal_plain_lines_are_printed_now_and_then(trial: TrialStatus) -> None:
    stream = io.StringIO()
    with Display(Console(file=stream, width=200), title="run", line_interval=1000) as display:
        for _ in range(5):
            display.update({"trial": trial}, "trial")
    lines = stream.getvalue().splitlines()
    # The first, and the last when it ends.
    assert len(lines) == 2
    assert "3,000 steps" in lines[0] and "A 5.00" in lines[0]
    assert "\x1b" not in stream.getvalue()


def test_the_first_of_several_trials_is_named_too(trial: TrialStatus) -> None:
    stream = io.StringIO()
    with Display(Console(file=stream, width=200), title="run", search=Metric()) as display:
        display.update({"trial": trial}, "trial")
        display.console.print(display.render())
    line, *table = stream.getvalue().splitlines()
    assert line.startswith("trial ")
    assert any(row.split()[:3] == ["trial", "iteration", "score"] for row in table)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0.000"), (0.1234, "0.123"), (12.345, "12.35"), (-987.65, "-987.6"), (1e-7, "1.0e-07")],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) in (text, "12.35", "12.34", "-987.7") and len(number(value)) <= 7


def test_durations_are_read_at_a_glance() -> None:
    assert [duration(seconds) for seconds in (5, 65, 3661)] == ["0:05", "1:05", "1:01:01"]
