"""The raw metrics of an experiment: written and read again, merged, and errors about damaged files."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from experiment_metrics import INFO, PRETRAIN_ENVS, made_up, rows_of, with_status

from rllib_multienv.evaluation.raw_metrics import (
    TABLES,
    RawMetrics,
    merge_raw_metrics,
    read_raw_metrics,
    write_raw_metrics,
)

WHOLE = made_up()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_raw_metrics(WHOLE, tmp_path / "metrics")


def _bytes(metrics: RawMetrics, folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in write_raw_metrics(metrics, folder).iterdir()}


def test_what_was_written_is_read(folder: Path) -> None:
    read = read_raw_metrics(folder)
    assert read.experiment == INFO
    for table in TABLES:
        pd.testing.assert_frame_equal(getattr(read, table), getattr(WHOLE, table))


def test_compressed_tables_are_read_as_well(folder: Path) -> None:
    WHOLE.curves.to_csv(folder / "curves.csv.gz", index=False)
    (folder / "curves.csv").unlink()
    pd.testing.assert_frame_equal(read_raw_metrics(folder).curves, WHOLE.curves)


def test_the_order_of_the_rows_does_not_matter(folder: Path, tmp_path: Path) -> None:
    turned = replace(WHOLE, **{table: getattr(WHOLE, table)[::-1] for table in TABLES})
    assert _bytes(turned, tmp_path / "other") == {file.name: file.read_bytes() for file in folder.iterdir()}


def test_rows_are_in_the_order_of_the_experiment(folder: Path) -> None:
    lines = (folder / "evaluations.csv").read_text().splitlines()
    assert lines[0] == "phase,variant,seed,env_id,episodes,mean,std,min,max"
    assert lines[1].startswith("single,alone,0,CartPole-v1,20,99,")
    assert [line.split(",")[1] for line in lines if line.startswith("pretrain,")][::6] == ["s4", "mlp", "s4-bare"]


def test_numbers_have_six_digits_and_lines_end_with_lf(tmp_path: Path) -> None:
    point = {"phase": "pretrain", "variant": "s4", "seed": 0, "env_id": "A", "steps": 1_234_567, "return_mean": -1 / 3}
    folder = write_raw_metrics(RawMetrics(experiment=INFO, curves=[point]), tmp_path)
    assert (folder / "curves.csv").read_bytes() == (
        b"phase,variant,seed,env_id,steps,return_mean\npretrain,s4,0,A,1234567,-0.333333\n"
    )


def test_unknown_numbers_are_empty_cells(tmp_path: Path) -> None:
    run = WHOLE.runs.iloc[:1].assign(parameters=None, seconds=math.nan, status="failed")
    folder = write_raw_metrics(RawMetrics(experiment=INFO, runs=run), tmp_path)
    assert "single,alone,0,CartPole-v1,,1000,,8,failed\n" in (folder / "runs.csv").read_text()
    assert read_raw_metrics(folder).runs["parameters"].isna().all()


def test_missing_files_are_named(folder: Path) -> None:
    (folder / "runs.csv").unlink()
    (folder / "curves.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks runs.csv, curves.csv"):
        read_raw_metrics(folder)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("curves.csv", "return_mean", "mean", r"curves.csv: the column 'return_mean' is missing"),
        ("curves.csv", ",100,8\n", ",100,high\n", r"curves.csv, row 3, return_mean: 'high' where a finite number"),
        ("curves.csv", ",100,8\n", ",100,nan\n", r"curves.csv, row 3, return_mean: 'nan' where a finite number"),
        ("curves.csv", ",100,8\n", ",100.5,8\n", r"curves.csv, row 3, steps: '100.5' where a whole number"),
        ("curves.csv", ",100,8\n", ",,8\n", r"curves.csv, row 3, steps: empty where a whole number"),
        ("runs.csv", ",done", ",gone", r"runs.csv, row 2, status: 'gone' where done, failed, unfinished is expected"),
        ("runs.csv", "single,alone", "single,together", r"metrics/runs.csv: unknown variant 'together'; known: s4,"),
        ("curves.csv", ",100,8\n", ",0,8\n", r"metrics/curves.csv: two rows for pretrain, s4, 0, CartPole-v1, 0"),
        ("experiment.json", '"seeds"', '"sedes"', r"experiment.json: the key 'seeds' is missing"),
        ("experiment.json", '"kind": "scratch"', '"kind": "scrap"', r"experiment.json: phase 'scratch' .*not 'scrap'"),
        ("experiment.json", '_from": "pretrain"', '_from": "before"', r"experiment.json: unknown phase 'before'"),
        ("experiment.json", "{", "", r"experiment.json: "),
    ],
)
def test_damage_is_located(folder: Path, file: str, old: str, new: str, message: str) -> None:
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_raw_metrics(folder)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_not_written(value: float) -> None:
    with pytest.raises(ValueError, match=r"evaluations.csv, row 2, mean: .* where a finite number is expected"):
        replace(WHOLE, evaluations=WHOLE.evaluations.assign(mean=value))


def _part(wanted: Callable[[pd.DataFrame], pd.Series]) -> RawMetrics:
    """Some of the runs, as a machine reports it that has run no others."""
    part = rows_of(WHOLE, wanted)
    phases = [phase for phase in INFO.phases if phase.name in set(part.runs["phase"])]
    envs = {env_id for phase in phases for env_id in phase.envs}
    random_scores = WHOLE.random_scores[WHOLE.random_scores["env_id"].isin(envs)]
    info = replace(INFO, seeds=tuple(sorted(part.runs["seed"].unique().tolist())))
    return replace(part, experiment=info, random_scores=random_scores)


@pytest.mark.parametrize(
    "share",
    [
        lambda rows: rows["seed"] == 1,
        lambda rows: rows["phase"].isin(["single", "pretrain"]),
        lambda rows: rows["variant"].isin(["s4", "alone"]),
        lambda rows: rows["variant"] == "s4-bare",
    ],
    ids=["seeds", "phases", "variants", "an ablation without its base"],
)
def test_parts_make_the_whole_in_either_order(share: Callable[[pd.DataFrame], pd.Series], tmp_path: Path) -> None:
    one, other = _part(share), _part(lambda rows: ~share(rows))
    assert len(one.runs) and len(other.runs)
    whole = _bytes(WHOLE, tmp_path / "whole")
    for index, parts in enumerate(({"a": one, "b": other}, {"b": other, "a": one})):
        assert _bytes(merge_raw_metrics(parts), tmp_path / str(index)) == whole


def test_phases_and_variants_that_were_added_later_are_merged() -> None:
    before = replace(INFO, phases=INFO.phases[:2], variants=INFO.variants[:1])
    merged = merge_raw_metrics({"one": RawMetrics(experiment=before), "other": WHOLE}).experiment
    assert (merged.phases, merged.variants) == (INFO.phases, INFO.variants)


def test_a_run_is_taken_from_where_it_is_done() -> None:
    broken = with_status(WHOLE, "unfinished", phase="pretrain", variant="s4", seeds=(1,))
    broken = replace(broken, evaluations=(), curves=())
    for parts in ({"broken": broken, "whole": WHOLE}, {"whole": WHOLE, "broken": broken}):
        merged = merge_raw_metrics(parts)
        query = "phase == 'pretrain' and variant == 's4' and seed == 1"
        assert list(merged.runs.query(query)["status"]) == ["done"]
        assert len(merged.evaluations.query(query)) == len(PRETRAIN_ENVS)


def test_of_two_that_are_done_the_first_counts() -> None:
    better = replace(WHOLE, evaluations=WHOLE.evaluations.assign(mean=lambda rows: rows["mean"] + 1))
    for first, second in ((WHOLE, better), (better, WHOLE)):
        merged = merge_raw_metrics({"a": first, "b": second})
        pd.testing.assert_frame_equal(merged.evaluations, first.evaluations)


def test_all_machines_commands_and_versions_are_named() -> None:
    one = replace(WHOLE, experiment=replace(INFO, machine="a", command="run a", versions={"ray": "1", "torch": "2"}))
    two = replace(WHOLE, experiment=replace(INFO, machine="b", command="run b", versions={"ray": "1", "torch": "3"}))
    merged = merge_raw_metrics({"one": one, "two": two})
    assert (merged.experiment.machine, merged.experiment.command) == ("a; b", "run a; run b")
    assert merged.experiment.versions == {"ray": "1", "torch": "2; 3"}
    assert merge_raw_metrics({"both": merged, "two": two}).experiment == merged.experiment


def test_parts_of_two_experiments_are_refused() -> None:
    longer = tuple(replace(phase, steps_per_environment=5) for phase in INFO.phases)
    other = replace(WHOLE, experiment=replace(INFO, phases=longer))
    message = r"one/x and two/y are not of one experiment: steps_per_environment of the phase 'single' is 1000 in"
    with pytest.raises(ValueError, match=message):
        merge_raw_metrics({"one/x": WHOLE, "two/y": other})
    base = tuple(replace(v, ablation_of="mlp") if v.name == "s4-bare" else v for v in INFO.variants)
    other = replace(WHOLE, experiment=replace(INFO, variants=base))
    with pytest.raises(ValueError, match=r"ablation_of of the variant 's4-bare' is 's4' in the first and 'mlp' in"):
        merge_raw_metrics({"one": WHOLE, "two": other})
