"""Learning curves: one panel per environment, against that environment's own steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from typer.testing import CliRunner

from rllib_multienv import EnvSpec
from rllib_multienv.cli import app
from rllib_multienv.evaluation.learning_curves import plot_learning_curves
from rllib_multienv.evaluation.progress import ProgressWriter, learning_curves, read_progress
from rllib_multienv.evaluation.random_scores import random_score


@pytest.fixture
def progress(tmp_path: Path) -> Path:
    path = tmp_path / "progress.csv"
    writer = ProgressWriter(path)
    for i in range(1, 6):
        row = {
            "training_iteration": i,
            "env_runners/num_module_steps_sampled_lifetime/A": 100 * i,
            "env_runners/num_module_steps_sampled_lifetime/B": 300 * i,
            "env_runners/module_episode_return_mean/A": 10 * i,
            "env_runners/module_episode_return_min/A": 5 * i,
            "env_runners/module_episode_return_max/A": 20 * i,
        }
        if i > 3:  # The first episode of B takes long.
            row["env_runners/module_episode_return_mean/B"] = -i
        writer.write(row)
    return path


def test_a_curve_has_the_environments_own_steps_and_its_range(progress: Path) -> None:
    a, b = learning_curves(read_progress(progress))
    assert (a.env_id, b.env_id) == ("A", "B")
    assert a.steps == [100, 200, 300, 400, 500]
    assert (a.mean[-1], a.low[-1], a.high[-1]) == (50, 25, 100)


def test_iterations_without_a_return_are_left_out(progress: Path) -> None:
    b = learning_curves(read_progress(progress))[1]
    assert (b.steps, b.mean) == ([1200, 1500], [-4, -5])
    # Without a smallest and a largest return there is no range.
    assert b.low == b.mean == b.high


def test_more_environments_make_a_larger_picture(progress: Path, tmp_path: Path) -> None:
    picture = imread(plot_learning_curves(progress, tmp_path / "two.png", title="a run"))
    one = tmp_path / "one.csv"
    ProgressWriter(one).write({"training_iteration": 1, "env_runners/module_episode_return_mean/A": 1})
    smaller = imread(plot_learning_curves(one, tmp_path / "one.png"))
    assert picture.shape[1] > 1.5 * smaller.shape[1]
    assert picture[..., :3].std() > 0.01, "the picture is blank"


def drawn(path: Path | dict[str, Path], output: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Figure:
    """The figure that is saved."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: figures.append(figure))
    plot_learning_curves(path, output, **options)
    return figures[0]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_legend_says_what_is_drawn(progress: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    references = {"random actions": {"A": 3.0}, "solved": {"B": 7.0}, "elsewhere": {"C": 1.0}}
    figure = drawn(progress, tmp_path / "x.png", monkeypatch, window=20, references=references)
    assert legend(figure) == ["mean of the last 20 episodes", "their range", "random actions", "solved"]
    levels = [line.get_ydata()[0] for ax in figure.axes for line in ax.lines if len(set(line.get_ydata())) == 1]
    assert levels == [3.0, 7.0]


def test_several_runs_share_the_panels(progress: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together = imread(plot_learning_curves({"x": progress, "y": progress}, tmp_path / "both.png"))
    alone = imread(plot_learning_curves(progress, tmp_path / "alone.png"))
    assert together.shape == alone.shape
    figure = drawn({"x": progress, "y": progress}, tmp_path / "x.png", monkeypatch)
    assert legend(figure) == ["x", "y"]
    assert [len(ax.lines) for ax in figure.axes] == [2, 2]


def test_evaluations_during_training_are_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "progress.csv"
    writer = ProgressWriter(path)
    for i in range(1, 5):
        row = {"training_iteration": i, "env_runners/num_module_steps_sampled_lifetime/A": 100 * i}
        row["env_runners/module_episode_return_mean/A"] = 1.0
        if i % 2 == 0:
            row["evaluation/env_runners/module_episode_return_mean/A"] = 10.0 * i
        writer.write(row)
    (curve,) = learning_curves(read_progress(path))
    assert curve.evaluated == [(200, 20.0), (400, 40.0)]
    figure = drawn(path, tmp_path / "x.png", monkeypatch)
    (points,) = (line for line in figure.axes[0].lines if line.get_marker() == "D")
    assert (list(points.get_xdata()), list(points.get_ydata())) == ([200, 400], [20.0, 40.0])
    assert "evaluation" in legend(figure)


def test_success_rates_are_drawn_of_environments_that_have_them(
    progress: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="no environment with a success rate"):
        plot_learning_curves(progress, tmp_path / "x.png", success=True)
    rates = {"training_iteration": 6, "env_runners/num_module_steps_sampled_lifetime/A": 600}
    rates |= {"env_runners/success_rate/A": 0.5, "evaluation/env_runners/success_rate/A": 0.7}
    ProgressWriter(progress).write(rates)
    figure = drawn(progress, tmp_path / "x.png", monkeypatch, success=True, window=20)
    (panel,) = figure.axes
    assert panel.get_ylabel() == "episodes with success"
    assert [line.get_ydata()[0] for line in panel.lines] == [0.5, 0.7]
    assert legend(figure) == ["mean of the last 20 episodes", "evaluation"]


def test_an_environment_without_an_ended_episode_has_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "progress.csv"
    ProgressWriter(path).write({"training_iteration": 1, "env_runners/num_module_steps_sampled_lifetime/A": 10})
    figure = drawn(path, tmp_path / "x.png", monkeypatch)
    assert [text.get_text() for text in figure.axes[0].texts] == ["no episode has ended yet"]


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    ProgressWriter(path).write({"training_iteration": 1})
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_learning_curves(path, tmp_path / "none.png")


def test_the_command_overlays_runs(progress: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTIENV_CACHE", str(tmp_path / "cache"))
    random_score(EnvSpec("CartPole-v1"))
    config = "environment: {envs: [CartPole-v1]}\nreporting: {metrics_num_episodes_for_smoothing: 7}\n"
    for name in ("one", "search/trial_00000", "search/trial_00001"):
        (tmp_path / name).mkdir(parents=True)
        text = progress.read_text().replace("/A", "/CartPole-v1")
        (tmp_path / name / "progress.csv").write_text(text)
    for name in ("one", "search"):
        (tmp_path / name / "config.yaml").write_text(config)
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: figures.append(figure))
    output = tmp_path / "both.png"
    runs = [str(tmp_path / name) for name in ("one", "search")]
    result = CliRunner().invoke(app, ["plot", *runs, "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert legend(figures[0]) == ["one", "search/trial_00000", "search/trial_00001", "random actions", "solved"]
    assert CliRunner().invoke(app, ["plot", runs[0], "--output", str(output)]).exit_code == 0
    assert legend(figures[1])[0] == "mean of the last 7 episodes"
    failed = CliRunner().invoke(app, ["plot", str(tmp_path / "cache")])
    assert failed.exit_code == 1
    assert "has no progress.csv" in " ".join(failed.output.split())
