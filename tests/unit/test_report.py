"""The report of an experiment: what stands in it follows from the raw metrics alone."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from experiment_metrics import INFO, STEPS, made_up, with_status
from matplotlib.image import imread
from typer.testing import CliRunner

from rllib_multienv.cli import app
from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.raw_metrics import RawMetrics, read_raw_metrics, write_raw_metrics
from rllib_multienv.evaluation.report import write_report
from rllib_multienv.evaluation.report.figures.palette import variant_colors
from rllib_multienv.evaluation.report.sections import report_sections
from rllib_multienv.evaluation.report.summary import summarize
from rllib_multienv.evaluation.report.tables.table import Table, write_csv, write_markdown

# Draws and writes a report where neither Ray nor PyTorch nor Gymnasium can be imported.
WITHOUT_RAY = """
import sys
class Nothing:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("ray", "torch", "gymnasium"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Nothing())
from rllib_multienv.evaluation.report import write_report
write_report(sys.argv[1])
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    write_raw_metrics(made_up(), folder / "metrics")
    assert write_report(folder) == folder / "report.html"
    return folder


def _tables(metrics: RawMetrics) -> dict[str, Table]:
    scores = ExperimentScores(metrics)
    sections = report_sections(scores, variant_colors(scores))
    return {table.name: table for section in sections for table in (*section.tables, *section.folded)}


def _lines(metrics: RawMetrics, name: str, folder: Path) -> list[dict[str, str]]:
    """A table's rows as its CSV file has them."""
    write_csv(_tables(metrics)[name], folder / "table.csv")
    with open(folder / "table.csv", newline="") as file:
        return list(csv.DictReader(file))


def _without(metrics: RawMetrics, wanted: Callable[[str], bool]) -> RawMetrics:
    """Only the rows of some phases."""
    return replace(
        metrics,
        runs=tuple(row for row in metrics.runs if wanted(row.phase)),
        evaluations=tuple(row for row in metrics.evaluations if wanted(row.phase)),
        curves=tuple(row for row in metrics.curves if wanted(row.phase)),
        gradient_cosines=tuple(row for row in metrics.gradient_cosines if wanted(row.phase)),
    )


def test_the_main_table_has_the_scores_of_every_variant(tmp_path: Path) -> None:
    s4, mlp, bare = _lines(made_up(), "aggregate_pretrain", tmp_path)
    # Means over the seeds: 81 and 41.
    assert [s4[key] for key in ("variant", "average", "median", "worst")] == ["s4", "61.0", "61.0", "41.0"]
    # 40, 41, 42, 80, 81, 82 without one at either end.
    assert float(s4["iqm"]) == 61.0
    assert float(s4["iqm_low"]) < 61.0 < float(s4["iqm_high"])
    assert (mlp["average"], bare["average"]) == ("41.0", "53.5")
    assert (s4["parameters"], s4["steps_per_second"], s4["complete_seeds"]) == ("255600", "16.0", "3 of 3")


def test_the_return_while_learning_counts_as_well(tmp_path: Path) -> None:
    s4, mlp, bare = _lines(made_up(), "aggregate_pretrain", tmp_path)
    # Curves rise from 0 in straight lines, so their means are half of what they end with.
    assert [row["learning"] for row in (s4, mlp, bare)] == ["30.5", "20.5", "26.75"]
    late = replace(
        made_up(),
        curves=tuple(
            replace(point, return_mean=0.0)
            if (point.phase, point.variant) == ("pretrain", "s4-bare") and point.steps <= STEPS // 2
            else point
            for point in made_up().curves
        ),
    )
    before, after = (_lines(metrics, "ablations", tmp_path)[0] for metrics in (made_up(), late))
    assert float(before["learning_difference"]) == pytest.approx(-3.75)
    assert float(after["learning_difference"]) < -8
    assert after["iqm_difference"] == before["iqm_difference"]


def test_the_best_score_stands_out(tmp_path: Path) -> None:
    write_markdown(_tables(made_up())["aggregate_pretrain"], tmp_path / "table.md")
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert "| variant | average | median | worst | IQM [95% interval] | while learning |" in lines[2]
    assert lines[4].startswith("| Agnostic S4 | **61.0** | **61.0** | **41.0** | **61.0 [")
    assert lines[5].startswith("| Padded MLP | 41.0 | 41.0 | 21.0 | 41.0 [")


def test_environments_have_returns_and_scores(tmp_path: Path) -> None:
    cartpole, pendulum = _lines(made_up(), "returns_pretrain", tmp_path)
    assert (cartpole["env_id"], cartpole["random"], cartpole["reference"], cartpole["s4"]) == (
        "CartPole-v1",
        "0.0",
        "100.0",
        "81.0",
    )
    assert float(pendulum["mlp_low"]) == pytest.approx(21 - 4.30265 / 3**0.5, rel=1e-4)


def test_transfer_is_compared_with_scratch(tmp_path: Path) -> None:
    s4, mlp = _lines(made_up(), "transfer_transfer", tmp_path)
    assert (s4["final_transfer"], s4["final_scratch"], s4["quarter_steps"]) == ("91.0", "51.0", str(STEPS // 4))
    # Transfer rises from 60 to 91, scratch from 0 to 51; after a quarter 67.75 and 12.75.
    assert [float(s4[key]) for key in ("quarter_transfer", "quarter_scratch", "end_scratch")] == [67.75, 12.75, 51.0]
    assert (s4["above_quarter"], s4["above_end"]) == ("yes", "yes")
    assert (mlp["above_quarter"], mlp["above_end"]) == ("no", "no")
    first, second = _lines(made_up(), "transfer_against_scratch", tmp_path)
    assert (first["above_quarter"], first["above_end"], first["final_difference"]) == ("1 of 1", "1 of 1", "40.0")
    assert (second["above_quarter"], second["final_difference"]) == ("0 of 1", "-20.0")


def test_transfers_that_begin_otherwise_stand_beside_each_other(tmp_path: Path) -> None:
    metrics = _with_second_transfer(made_up())
    scores = ExperimentScores(metrics)
    (section,) = (part for part in report_sections(scores, variant_colors(scores)) if part.key.startswith("transfer"))
    assert [figure.name for figure in section.figures] == ["curves_transfer", "curves_transfer-fresh"]
    names = [table.name for table in (*section.tables, *section.folded)]
    assert len(names) == len(set(names))  # training from scratch is shown once
    summary = _lines(metrics, "transfer_against_scratch", tmp_path)
    assert [(row["variant"], row["phase"], row["final_difference"]) for row in summary] == [
        ("s4", "transfer", "40.0"),
        ("mlp", "transfer", "-20.0"),
        ("s4", "transfer-fresh", "40.0"),
        ("mlp", "transfer-fresh", "-20.0"),
    ]
    rows = _lines(metrics, "aggregate_with_scratch", tmp_path)
    assert [(row["variant"], row["phase"], row["average"]) for row in rows] == [
        ("s4", "scratch", "51.0"),
        ("s4", "transfer", "91.0"),
        ("s4", "transfer-fresh", "91.0"),
        ("mlp", "scratch", "51.0"),
        ("mlp", "transfer", "31.0"),
        ("mlp", "transfer-fresh", "31.0"),
    ]


def _with_second_transfer(metrics: RawMetrics) -> RawMetrics:
    """A phase `transfer-fresh` in which all is as in `transfer`."""
    again = {
        name: (*rows, *(replace(row, phase="transfer-fresh") for row in rows if row.phase == "transfer"))
        for name, rows in (("runs", metrics.runs), ("evaluations", metrics.evaluations), ("curves", metrics.curves))
    }
    phases = metrics.experiment.phases
    (transfer,) = (phase for phase in phases if phase.name == "transfer")
    info = replace(metrics.experiment, phases=(*phases, replace(transfer, name="transfer-fresh")))
    return replace(metrics, experiment=info, **again)


def test_ablations_are_differences_to_their_base(tmp_path: Path) -> None:
    (row,) = _lines(made_up(), "ablations", tmp_path)
    assert (row["variant"], row["base"], row["phase"], row["environments"]) == (
        "s4-bare",
        "Agnostic S4",
        "pretrain",
        "2",
    )
    assert (row["average_difference"], row["iqm_difference"]) == ("-7.5", "-7.5")
    cartpole, pendulum = _lines(made_up(), "ablations_environments", tmp_path)
    assert (cartpole["difference"], pendulum["difference"]) == ("-10.0", "-5.0")
    assert float(cartpole["difference_high"]) == pytest.approx(-10 + 2.776445 * (2 / 3) ** 0.5, rel=1e-4)


def test_gradient_cosines_are_averaged(tmp_path: Path) -> None:
    row = _lines(made_up(), "gradient_cosines", tmp_path)[0]
    assert (row["env_a"], row["env_b"]) == ("CartPole-v1", "Pendulum-v1")
    assert (row["cosine"], row["negative_percent"], row["measurements"]) == ("-0.2", "50.0", "6")


def test_references_say_which_variant(tmp_path: Path) -> None:
    row = _lines(made_up(), "references", tmp_path)[0]
    assert (row["random"], row["reference"], row["reference_variant"]) == ("0.0", "100.0", "Trained alone")
    assert row["versions"] == "gymnasium 1.2.2"


def test_a_column_without_anything_to_say_is_not_shown(report: Path) -> None:
    shown = report.joinpath("tables/references.md").read_text()
    assert "versions" in shown and "no score because" not in shown and "made from" not in shown
    with open(report / "tables/references.csv", newline="") as file:
        assert "problem" in next(csv.reader(file))


def test_a_failed_run_does_not_count_and_is_said(tmp_path: Path) -> None:
    metrics = with_status(made_up(), "failed", phase="pretrain", variant="s4", seed=2)
    s4 = _lines(metrics, "aggregate_pretrain", tmp_path)[0]
    # Seeds 0 and 1 are left: means of 80.5 and 40.5.
    assert (s4["average"], s4["complete_seeds"]) == ("60.5", "2 of 3")
    assert summarize(ExperimentScores(metrics)).missing == ("pretrain, Agnostic S4: seed 2 failed.",)
    assert any(fact == ("Runs", "29 done, 1 failed") for fact in summarize(ExperimentScores(metrics)).facts)


def test_seeds_that_never_ran_are_said() -> None:
    metrics = made_up()
    gone = replace(
        metrics,
        runs=tuple(r for r in metrics.runs if (r.variant, r.env) != ("alone", "Acrobot-v1") or r.seed == 0),
        evaluations=tuple(
            r
            for r in metrics.evaluations
            if not (r.variant == "alone" and r.env_id == "Acrobot-v1" and r.seed)
            and (r.phase, r.variant, r.seed) != ("scratch", "mlp", 1)
        ),
    )
    assert summarize(ExperimentScores(gone)).missing == (
        "single, Trained alone: seeds 1 and 2 not run in Acrobot-v1.",
        "scratch, Padded MLP: seed 1 not evaluated.",
    )


def test_nothing_is_missing_where_all_ran() -> None:
    assert summarize(ExperimentScores(made_up())).missing == ()


def test_a_reference_no_better_than_random_is_marked_and_left_out(tmp_path: Path) -> None:
    metrics = made_up()
    good = tuple(replace(s, mean=100.0) if s.env_id == "Pendulum-v1" else s for s in metrics.random_scores)
    metrics = replace(metrics, random_scores=good)
    s4 = _lines(metrics, "aggregate_pretrain", tmp_path)[0]
    assert (s4["average"], s4["environments"]) == ("81.0", "1")
    assert _lines(metrics, "scores_pretrain", tmp_path)[1]["s4"] == "reference not above random"
    assert "Pendulum-v1 (reference not above random)" in _tables(metrics)["aggregate_pretrain"].notes[1]
    scores = ExperimentScores(metrics)
    sections = {section.key: section for section in report_sections(scores, variant_colors(scores))}
    assert sections["references"].text == ("No normalised score in Pendulum-v1: reference not above random.",)
    for table in _tables(metrics).values():
        write_markdown(table, tmp_path / "table.md")
        assert not re.search(r"\b(inf|nan)\b", (tmp_path / "table.md").read_text()), table.name


def test_without_references_returns_are_shown(tmp_path: Path) -> None:
    metrics = _without(made_up(), lambda phase: phase != "single")
    assert _lines(metrics, "aggregate_pretrain", tmp_path)[0]["average"] == ""
    row = _lines(metrics, "transfer_transfer", tmp_path)[0]
    assert (row["final_transfer"], row["unit"]) == ("91.0", "return")
    scores = ExperimentScores(metrics)
    (environments,) = [s for s in report_sections(scores, variant_colors(scores)) if s.key == "environments"]
    assert (environments.figures, environments.tables) == ((), ())
    assert [table.name for table in environments.folded] == ["returns_pretrain"]


def test_sections_without_data_are_left_out(tmp_path: Path) -> None:
    scores = ExperimentScores(_without(made_up(), lambda phase: phase == "pretrain"))
    keys = [section.key for section in report_sections(scores, variant_colors(scores))]
    assert keys == ["scores", "curves", "environments", "ablations", "gradients", "references", "runs"]
    empty = ExperimentScores(RawMetrics(experiment=INFO))
    assert [section.key for section in report_sections(empty, {})] == ["references"]
    write_raw_metrics(RawMetrics(experiment=INFO), tmp_path / "metrics")
    assert "A made-up experiment" in write_report(tmp_path).read_text()


def test_a_variant_has_one_colour(report: Path) -> None:
    colors = variant_colors(ExperimentScores(made_up()))
    assert len(set(colors.values())) == 4
    page = report.joinpath("report.html").read_text()
    for name, label in (("s4", "Agnostic S4"), ("mlp", "Padded MLP")):
        swatches = set(re.findall(rf'<i class="swatch" style="background:(#\w+)"></i>{label}<', page))
        assert swatches == {colors[name]}
        assert colors[name].lower() in page.lower().split('id="curves"')[1]


def test_the_page_holds_everything_itself(report: Path) -> None:
    page = report.joinpath("report.html").read_text()
    assert "<title>A made-up experiment</title>" in page
    assert "Second &lt;paragraph&gt;." in page
    assert "multienv experiment made-up.yaml" in page
    for heading in ("Results", "Learning curves", "Transfer", "Ablations", "Gradients of the environments", "Runs"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("<svg xmlns") == 2 + 1 + 1 + 2 + 3
    outside = set(re.findall(r'(?:src|href)="([^"#][^"]*)"', page)) | set(re.findall(r"url\(([^#)][^)]*)\)", page))
    assert not outside
    assert "<script" not in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([\w.-]+)', page)) <= set(ids)


def test_a_table_of_more_variants_than_environments_is_turned_on_the_page(report: Path) -> None:
    page = report.joinpath("report.html").read_text()
    table = page.split("Normalised score of the final evaluation after the phase pretrain.")[1].split("</table>")[0]
    cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", table)]
    assert cells[:3] == ["", "CartPole-v1", "Pendulum-v1"]
    assert cells[3::3] == ["Agnostic S4", "Padded MLP", "S4 without Transformer"]
    assert cells[4].startswith("81.0 [") and cells[5].startswith("41.0 [") and cells[7].startswith("61.0 [")
    with open(report / "tables" / "scores_pretrain.csv", newline="") as file:
        assert [row["env_id"] for row in csv.DictReader(file)] == ["CartPole-v1", "Pendulum-v1"]


def test_the_commands_of_runs_that_were_put_together_are_all_named(tmp_path: Path) -> None:
    info = replace(INFO, command="multienv experiment one.yaml; multienv experiment other.yaml")
    write_raw_metrics(replace(made_up(), experiment=info), tmp_path / "metrics")
    page = write_report(tmp_path).read_text()
    assert "<code>multienv experiment one.yaml</code>" in page and "<code>multienv experiment other.yaml</code>" in page


def test_runs_under_way_are_drawn_where_none_is_done(tmp_path: Path) -> None:
    metrics = made_up()
    for seed in (0, 1, 2):
        metrics = with_status(metrics, "unfinished", phase="pretrain", variant="mlp", seed=seed)
    scores = ExperimentScores(metrics)
    sections = {section.key: section for section in report_sections(scores, variant_colors(scores))}
    (figure,) = sections["curves"].figures
    assert [item.label for item in figure.legend[:2]] == ["Agnostic S4", "Padded MLP"]
    assert "those under way are shown" in figure.caption
    assert _lines(metrics, "aggregate_pretrain", tmp_path)[1]["average"] == ""
    for seed in (0, 1, 2):
        metrics = with_status(metrics, "failed", phase="pretrain", variant="mlp", seed=seed)
    scores = ExperimentScores(metrics)
    sections = {section.key: section for section in report_sections(scores, variant_colors(scores))}
    assert [item.label for item in sections["curves"].figures[0].legend[:2]] == ["Agnostic S4", "random actions"]


def test_curves_that_end_a_little_early_count_at_their_end() -> None:
    metrics = made_up()
    cut = [point for point in metrics.curves if point.phase != "scratch" or point.seed != 2 or point.steps < STEPS]
    last = [replace(p, steps=960) for p in metrics.curves if p.phase == "scratch" and p.seed == 2 and p.steps == STEPS]
    scores = ExperimentScores(replace(metrics, curves=(*cut, *last)))
    assert scores.curve_at("scratch", "s4", "Acrobot-v1", STEPS) == 51.0
    # At 900 of 1000 steps it ends too early to count: seeds 0 and 1 are left.
    scores = ExperimentScores(replace(metrics, curves=tuple(cut)))
    assert scores.curve_at("scratch", "s4", "Acrobot-v1", STEPS) == 50.5


def test_figures_are_pictures(report: Path) -> None:
    names = [
        "ablations_pretrain_s4",
        "curves_pretrain",
        "curves_transfer",
        "differences_pretrain_s4",
        "gradient_cosines",
        "scores_pretrain",
    ]
    assert sorted(path.stem for path in (report / "figures").iterdir()) == names
    for name in names:
        assert imread(report / "figures" / f"{name}.png")[..., :3].std() > 0.01, f"{name} is blank"


def test_every_table_is_csv_and_markdown(report: Path) -> None:
    written = {path.name for path in (report / "tables").iterdir()}
    assert written == {f"{name}.{ending}" for name in _tables(made_up()) for ending in ("csv", "md")}


def test_the_same_metrics_give_the_same_bytes_in_another_process_without_ray(report: Path, tmp_path: Path) -> None:
    write_raw_metrics(read_raw_metrics(report / "metrics"), tmp_path / "metrics")
    subprocess.run([sys.executable, "-c", WITHOUT_RAY, str(tmp_path)], check=True, cwd=Path(__file__).parents[2])
    files = sorted(path.relative_to(report) for path in report.rglob("*") if path.is_file())
    assert len(files) > 30
    for file in files:
        assert (report / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_the_command_writes_where_it_is_told(report: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(report), "--output", str(tmp_path / "page" / "index.html")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "page" / "index.html").read_bytes() == (report / "report.html").read_bytes()
    assert (tmp_path / "page" / "tables" / "aggregate_pretrain.csv").exists()
    assert "index.html" in result.output


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 1
    assert "has no folder metrics" in result.output
    assert "multienv experiment makes it" in result.output
    write_raw_metrics(made_up(), tmp_path / "metrics")
    (tmp_path / "metrics" / "runs.csv").unlink()
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 1
    assert "metrics lacks runs.csv" in result.output


def test_what_has_not_run_is_not_in_the_report(tmp_path: Path) -> None:
    done = _without(made_up(), lambda phase: phase in ("single", "transfer"))
    summary = summarize(ExperimentScores(done))
    # What transfer begins with is there, for the table of phases says where each begins.
    assert [row[0] for row in summary.phases.rows] == ["single", "pretrain", "transfer"]
    assert ("Variants", "Agnostic S4; Padded MLP; Trained alone") in summary.facts
    only_the_ablation = replace(
        made_up(),
        runs=tuple(row for row in made_up().runs if row.variant in ("s4-bare", "alone")),
        evaluations=tuple(row for row in made_up().evaluations if row.variant in ("s4-bare", "alone")),
        curves=(),
    )
    assert "ablations" not in _tables(only_the_ablation)
