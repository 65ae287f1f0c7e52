"""One report of an experiment whose runs lie in several folders, because several machines shared them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from experiment_metrics import INFO, PRETRAIN_ENVS, made_up, with_status
from typer.testing import CliRunner

from rllib_multienv.cli import app
from rllib_multienv.evaluation.merge_metrics import merge_raw_metrics
from rllib_multienv.evaluation.raw_metrics import RawMetrics, read_raw_metrics, write_raw_metrics
from rllib_multienv.evaluation.report import write_report

WHOLE = made_up()


def _part(wanted: Callable[[str, str, int], bool]) -> RawMetrics:
    """Some of the runs, as a machine reports it that has run no others."""

    def of(rows: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(row for row in rows if wanted(row.phase, row.variant, row.seed))

    runs = of(WHOLE.runs)
    envs = {env_id for phase in INFO.phases if phase.name in {run.phase for run in runs} for env_id in phase.envs}
    experiment = replace(INFO, seeds=tuple(sorted({run.seed for run in runs})))
    return RawMetrics(
        experiment=experiment,
        runs=runs,
        evaluations=of(WHOLE.evaluations),
        curves=of(WHOLE.curves),
        random_scores=tuple(row for row in WHOLE.random_scores if row.env_id in envs),
        gradient_cosines=of(WHOLE.gradient_cosines),
    )


def _bytes(metrics: RawMetrics, folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in write_raw_metrics(metrics, folder).iterdir()}


@pytest.mark.parametrize(
    "share",
    [
        lambda phase, variant, seed: seed == 1,
        lambda phase, variant, seed: phase in ("single", "pretrain"),
        lambda phase, variant, seed: variant in ("s4", "alone"),
        lambda phase, variant, seed: variant == "s4-bare",
    ],
    ids=["seeds", "phases", "variants", "an ablation without its base"],
)
def test_parts_make_the_whole_in_either_order(share: Callable[[str, str, int], bool], tmp_path: Path) -> None:
    one, other = _part(share), _part(lambda *run: not share(*run))
    assert one.runs
    assert other.runs
    whole = _bytes(WHOLE, tmp_path / "whole")
    for index, parts in enumerate(({"a": one, "b": other}, {"b": other, "a": one})):
        assert _bytes(merge_raw_metrics(parts), tmp_path / str(index)) == whole


def test_what_was_added_to_the_file_later_has_its_place() -> None:
    before = replace(
        INFO,
        phases=tuple(phase for phase in INFO.phases if phase.name != "transfer"),
        variants=tuple(variant for variant in INFO.variants if variant.name not in ("mlp", "alone")),
    )
    one = RawMetrics(experiment=before, random_scores=WHOLE.random_scores)
    assert merge_raw_metrics({"one": one, "other": WHOLE}).experiment == INFO
    assert merge_raw_metrics({"other": WHOLE, "one": one}).experiment == INFO


def test_a_run_is_taken_from_where_it_is_done() -> None:
    broken = with_status(WHOLE, "unfinished", phase="pretrain", variant="s4", seed=1)
    broken = replace(broken, evaluations=(), curves=())
    for parts in ({"broken": broken, "whole": WHOLE}, {"whole": WHOLE, "broken": broken}):
        merged = merge_raw_metrics(parts)
        (run,) = (run for run in merged.runs if (run.phase, run.variant, run.seed) == ("pretrain", "s4", 1))
        assert run.status == "done"
        assert len([e for e in merged.evaluations if (e.phase, e.variant, e.seed) == ("pretrain", "s4", 1)]) == len(
            PRETRAIN_ENVS
        )


def test_of_two_that_are_done_the_first_counts() -> None:
    better = replace(WHOLE, evaluations=tuple(replace(row, mean=row.mean + 1) for row in WHOLE.evaluations))
    assert set(merge_raw_metrics({"a": WHOLE, "b": better}).evaluations) == set(WHOLE.evaluations)
    assert set(merge_raw_metrics({"b": better, "a": WHOLE}).evaluations) == set(better.evaluations)


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
    message = (
        r"one/x and two/y are not of one experiment: steps_per_environment of the phase 'single' is 1000 there and 5"
    )
    with pytest.raises(ValueError, match=message):
        merge_raw_metrics({"one/x": WHOLE, "two/y": other})
    base = tuple(replace(v, ablation_of="mlp") if v.name == "s4-bare" else v for v in INFO.variants)
    other = replace(WHOLE, experiment=replace(INFO, variants=base))
    with pytest.raises(ValueError, match=r"ablation_of of the variant 's4-bare' is 's4' there and 'mlp' here"):
        merge_raw_metrics({"one": WHOLE, "two": other})


def test_nothing_is_no_experiment() -> None:
    with pytest.raises(ValueError, match="no raw metrics"):
        merge_raw_metrics({})


def test_the_command_makes_one_report_of_several_folders(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("whole", "one", "other")]
    write_raw_metrics(WHOLE, folders[0] / "metrics")
    write_raw_metrics(_part(lambda phase, variant, seed: seed < 2), folders[1] / "metrics")
    write_raw_metrics(_part(lambda phase, variant, seed: seed == 2), folders[2] / "metrics")
    wanted = write_report(folders[0])
    page = tmp_path / "page" / "index.html"
    result = CliRunner().invoke(app, ["report", *map(str, folders[1:]), "--output", str(page)])
    assert result.exit_code == 0, result.output
    assert page.read_bytes() == wanted.read_bytes()
    for name in ("metrics", "tables", "figures"):
        for file in (folders[0] / name).iterdir():
            assert file.read_bytes() == (page.parent / name / file.name).read_bytes(), file
    # What it has written is a part like any other, into whose folder it may go.
    again = CliRunner().invoke(app, ["report", str(page.parent), str(folders[2]), "--output", str(page)])
    assert again.exit_code == 0, again.output
    assert read_raw_metrics(page.parent / "metrics").experiment == INFO


def test_the_command_wants_to_know_where_to(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(tmp_path), str(tmp_path)])
    assert result.exit_code == 1
    assert "--output" in result.output
    assert not list(tmp_path.iterdir())


def test_the_metrics_of_all_do_not_replace_those_of_one(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        write_raw_metrics(WHOLE, folder / "metrics")
    (folders[0] / "runs").mkdir()
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    result = CliRunner().invoke(app, ["report", *map(str, folders), "--output", str(folders[0] / "all.html")])
    assert result.exit_code == 1
    assert "holds runs" in result.output
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
