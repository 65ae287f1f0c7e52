"""The raw metrics of an experiment: written and read again, and what is said about damaged files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from experiment_metrics import made_up

from rllib_multienv.evaluation.raw_metrics import CurvePoint, RawMetrics, read_raw_metrics, write_raw_metrics


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_raw_metrics(made_up(), tmp_path / "metrics")


def _change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _as_sets(metrics: RawMetrics) -> tuple[object, ...]:
    return (
        metrics.experiment,
        *map(
            set,
            (metrics.runs, metrics.evaluations, metrics.curves, metrics.random_scores, metrics.gradient_cosines),
        ),
    )


def test_what_was_written_is_read(folder: Path) -> None:
    assert _as_sets(read_raw_metrics(folder)) == _as_sets(made_up())


def test_the_order_of_the_rows_does_not_matter(folder: Path, tmp_path: Path) -> None:
    metrics = made_up()
    turned = replace(metrics, **{k: tuple(reversed(getattr(metrics, k))) for k in ("runs", "evaluations", "curves")})
    other = write_raw_metrics(turned, tmp_path / "other")
    for file in sorted(folder.iterdir()):
        assert file.read_bytes() == (other / file.name).read_bytes(), file.name


def test_rows_stand_in_the_order_of_the_experiment(folder: Path) -> None:
    lines = (folder / "evaluations.csv").read_text().splitlines()
    assert lines[0] == "phase,variant,seed,env_id,episodes,mean,std,min,max"
    assert lines[1].startswith("single,alone,0,CartPole-v1,20,99.0,")
    assert [line.split(",")[1] for line in lines if line.startswith("pretrain,")][::6] == ["s4", "mlp", "s4-bare"]


def test_numbers_have_six_digits_and_lines_end_with_lf(tmp_path: Path) -> None:
    point = CurvePoint(phase="pretrain", variant="s4", seed=0, env_id="A", steps=1_234_567, return_mean=-1 / 3)
    folder = write_raw_metrics(RawMetrics(experiment=made_up().experiment, curves=(point,)), tmp_path)
    assert (folder / "curves.csv").read_bytes() == (
        b"phase,variant,seed,env_id,steps,return_mean\npretrain,s4,0,A,1234567,-0.333333\n"
    )


def test_unknown_numbers_are_empty_cells(tmp_path: Path) -> None:
    run = replace(made_up().runs[0], parameters=None, seconds=None, status="failed")
    folder = write_raw_metrics(RawMetrics(experiment=made_up().experiment, runs=(run,)), tmp_path)
    assert "single,alone,0,CartPole-v1,,1000,,8.0,failed\n" in (folder / "runs.csv").read_text()
    assert read_raw_metrics(folder).runs == (run,)


def test_without_gradient_cosines_there_is_no_file_of_theirs(folder: Path) -> None:
    assert (folder / "gradient_cosines.csv").exists()
    write_raw_metrics(replace(made_up(), gradient_cosines=()), folder)
    assert not (folder / "gradient_cosines.csv").exists()
    assert read_raw_metrics(folder).gradient_cosines == ()


def test_the_phase_it_begins_with_is_called_from(folder: Path) -> None:
    phases = {phase["name"]: phase for phase in json.loads((folder / "experiment.json").read_text())["phases"]}
    assert (phases["transfer"]["from"], phases["pretrain"]["from"]) == ("pretrain", None)


def test_missing_files_are_named(folder: Path) -> None:
    (folder / "runs.csv").unlink()
    (folder / "curves.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks runs.csv, curves.csv"):
        read_raw_metrics(folder)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("curves.csv", "return_mean", "mean", r"curves.csv: the column 'return_mean' is missing"),
        ("curves.csv", ",100,8.0", ",100,high", r"curves.csv, row 3, return_mean: 'high' is no number"),
        ("curves.csv", ",100,8.0", ",100,nan", r"curves.csv, row 3, return_mean: 'nan' is no finite number"),
        ("curves.csv", ",100,8.0", ",100.5,8.0", r"curves.csv, row 3, steps: '100.5' is no whole number"),
        ("curves.csv", ",100,8.0", ",,8.0", r"curves.csv, row 3, steps: the cell is empty"),
        ("runs.csv", ",done", ",gone", r"runs.csv, row 2: status 'gone' is none of done, failed, unfinished"),
        ("runs.csv", "single,alone", "single,together", r"metrics/runs.csv: unknown variant 'together'; known: s4,"),
        ("curves.csv", ",100,8.0", ",0,8.0", r"metrics/curves.csv: two rows for pretrain, s4, 0, CartPole-v1, 0"),
        ("experiment.json", '"seeds"', '"sedes"', r"experiment.json: the key 'seeds' is missing"),
        ("experiment.json", '"kind": "scratch"', '"kind": "scrap"', r"experiment.json: phase 'scratch': kind 'scrap'"),
        ("experiment.json", '"from": "pretrain"', '"from": "before"', r"experiment.json: unknown phase 'before'"),
        ("experiment.json", "{", "", r"experiment.json: "),
    ],
)
def test_damage_is_located(folder: Path, file: str, old: str, new: str, message: str) -> None:
    _change(folder / file, old, new)
    with pytest.raises(ValueError, match=message):
        read_raw_metrics(folder)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_not_written(tmp_path: Path, value: float) -> None:
    bad = replace(made_up().evaluations[0], mean=value)
    with pytest.raises(ValueError, match=r"mean of EvaluationPoint\(phase='single'.*is no finite number"):
        write_raw_metrics(replace(made_up(), evaluations=(bad,)), tmp_path)
