"""The learning curves: one panel per environment, against that environment's own steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.image import imread

from rllib_multienv.evaluation.learning_curves import plot_learning_curves
from rllib_multienv.evaluation.progress import ProgressWriter, learning_curves, read_progress


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


def test_several_runs_share_the_panels(progress: Path, tmp_path: Path) -> None:
    together = imread(plot_learning_curves({"x": progress, "y": progress}, tmp_path / "both.png"))
    alone = imread(plot_learning_curves(progress, tmp_path / "alone.png"))
    assert together.shape == alone.shape


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    ProgressWriter(path).write({"training_iteration": 1})
    with pytest.raises(ValueError, match="no environment has finished an episode"):
        plot_learning_curves(path, tmp_path / "none.png")
