"""The report of an experiment: everything in it follows from the raw metrics alone."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiment_metrics import INFO, SEEDS, STEPS, made_up, rows_of, with_copy, with_status
from matplotlib.image import imread
from typer.testing import CliRunner

from rllib_multienv.cli import app
from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.raw_metrics import RawMetrics, VariantInfo, read_raw_metrics, write_raw_metrics
from rllib_multienv.evaluation.report import write_report
from rllib_multienv.evaluation.report.figures import ReportFigure, report_figures, variant_styles
from rllib_multienv.evaluation.report.tables import report_tables

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


def table(metrics: RawMetrics, name: str) -> pd.DataFrame:
    return report_tables(ExperimentScores(metrics))[name]


def figures(metrics: RawMetrics) -> dict[str, ReportFigure]:
    scores = ExperimentScores(metrics)
    return {figure.name: figure for figure in report_figures(scores, report_tables(scores))}


def page(metrics: RawMetrics, folder: Path) -> str:
    write_raw_metrics(metrics, folder / "metrics")
    return write_report(folder).read_text()


def legend(figure: ReportFigure) -> list[str]:
    return [text.get_text() for text in figure.figure.legends[0].get_texts()]


def test_the_main_table_has_the_scores_of_every_variant() -> None:
    s4, mlp, bare = table(made_up(), "scores").query("phase == 'pretrain'").to_dict("records")
    # Means over the seeds: 81 and 41.
    assert [s4[key] for key in ("variant", "average", "median", "worst")] == ["s4", 61.0, 61.0, 41.0]
    # 40, 41, 42, 80, 81, 82 without one at either end.
    assert s4["iqm"] == 61.0
    assert s4["iqm_low"] < 61.0 < s4["iqm_high"]
    assert (mlp["average"], bare["average"]) == (41.0, 53.5)
    assert (s4["parameters"], s4["steps_per_second"], s4["seeds"]) == (255600, 16.0, "3 of 3")


def test_the_return_while_learning_counts_as_well() -> None:
    # Curves rise from 0 in straight lines, so their means are half of what they end with.
    scores = table(made_up(), "scores").query("phase == 'pretrain'")
    assert scores["while_learning"].tolist() == [30.5, 20.5, 26.75]
    curves = made_up().curves
    late = (curves["phase"] == "pretrain") & (curves["variant"] == "s4-bare") & (curves["steps"] <= STEPS // 2)
    later = replace(made_up(), curves=curves.assign(return_mean=curves["return_mean"].where(~late, 0.0)))
    before, after = (table(metrics, "ablations").iloc[0] for metrics in (made_up(), later))
    assert before["while_learning"] == pytest.approx(-3.75)
    assert after["while_learning"] < -8
    assert after["final"] == before["final"]


def test_environments_have_returns_and_scores() -> None:
    rows = table(made_up(), "environments").query("phase == 'pretrain'").set_index(["env_id", "variant"])
    assert rows.loc[("CartPole-v1", "s4"), ["return", "score"]].tolist() == [81.0, 81.0]
    assert rows.loc[("Pendulum-v1", "mlp"), "return_low"] == pytest.approx(21 - 4.30265 / 3**0.5, rel=1e-4)


def test_transfer_is_compared_with_scratch() -> None:
    s4, mlp = table(made_up(), "transfer").to_dict("records")
    assert [s4[key] for key in ("phase", "variant", "base_phase", "base")] == ["transfer", "s4", "scratch", "s4"]
    assert (s4["final"], s4["final_average"], mlp["final_average"]) == (40.0, 40.0, -20.0)
    # Transfer rises from 60 to 91, after a quarter it is at 67.75; scratch rises from 0 to 51.
    assert (s4["ahead_at_quarter"], s4["ahead_of_end"]) == ("1 of 1", "1 of 1")
    assert (mlp["ahead_at_quarter"], mlp["ahead_of_end"]) == ("0 of 1", "0 of 1")
    assert s4["while_learning_average"] == pytest.approx((60 + 91) / 2 - 51 / 2)


def test_returns_of_transfer_are_paired_with_scratch_by_seed() -> None:
    metrics = made_up()
    zero_shot = metrics.evaluations[
        (metrics.evaluations["phase"] == "transfer") & (metrics.evaluations["variant"] == "s4")
    ]
    scores = ExperimentScores(replace(metrics, zero_shot=zero_shot.assign(mean=33.0)))
    table = report_tables(scores)["transfer_returns"].set_index("variant")
    row = table.loc["s4"]
    assert (row["phase"], row["env_id"], row["seeds"], row["zero_shot"]) == ("transfer", "Acrobot-v1", 3, 33)
    # From 60 to 91 against from 0 to 51: straight lines, so the mean over the first half is that at a quarter.
    assert list(row[["first_half", "quarter"]]) == pytest.approx([67.75] * 2)
    assert list(row[["scratch_first_half", "scratch_quarter"]]) == pytest.approx([12.75] * 2)
    assert list(row[["difference", "difference_low", "difference_high"]]) == pytest.approx([55] * 3)
    assert (row["final"], row["scratch_final"]) == (91, 51)
    assert np.isnan(table.loc["mlp", "zero_shot"])


def test_several_transfer_phases_are_compared_with_the_same_scratch() -> None:
    (transfer,) = (phase for phase in INFO.phases if phase.name == "transfer")
    metrics = with_copy(made_up(), "phase", "transfer", replace(transfer, name="transfer-fresh"))
    rows = table(metrics, "transfer")
    assert rows["phase"].tolist() == ["transfer", "transfer", "transfer-fresh", "transfer-fresh"]
    assert rows["final_average"].tolist() == [40.0, -20.0, 40.0, -20.0]
    assert {"curves_transfer", "curves_transfer-fresh"} <= set(figures(metrics))


def test_ablations_are_differences_to_their_base() -> None:
    (row,) = table(made_up(), "ablations").to_dict("records")
    assert (row["variant"], row["base"], row["phase"]) == ("s4-bare", "s4", "pretrain")
    assert (row["final"], row["final_average"]) == (-7.5, -7.5)
    without_base = rows_of(made_up(), lambda rows: rows["variant"].isin(["s4-bare", "alone"]))
    assert table(without_base, "ablations").empty


def test_gradient_cosines_are_averaged() -> None:
    row = table(made_up(), "gradient_cosines").iloc[0]
    assert (row["env_a"], row["env_b"]) == ("CartPole-v1", "Pendulum-v1")
    assert (row["cosine"], row["negative"], row["measurements"]) == (pytest.approx(-0.2), 0.5, 6)


def test_adaptation_is_shown_by_episode_of_the_task() -> None:
    row = table(made_up(), "adaptation").iloc[0]
    assert row[["phase", "env_id", "variant", "seeds"]].tolist() == ["pretrain", "CartPole-v1", "s4", 3]
    assert row[["first_episode", "last_episode", "sum", "oracle"]].tolist() == [11.0, 21.0, 32.0, 30.0]
    assert (row["env_steps"], row["seconds"]) == (2000, 125)
    (ax,) = figures(made_up())["adaptation_pretrain"].figure.axes
    assert ax.lines[0].get_xydata().tolist() == [[1, 11], [2, 21]]


def test_the_interval_of_one_seed_is_over_tasks() -> None:
    row = table(rows_of(made_up(), lambda rows: rows["seed"] == 1), "adaptation").iloc[0]
    assert row[["first_episode_low", "first_episode", "first_episode_high"]].tolist() == [9.0, 11.0, 13.0]


def test_references_are_the_best_variants_means_over_seeds() -> None:
    # A second variant has the best single seed, but not the best mean.
    evaluations = made_up().evaluations
    alone = evaluations[evaluations["phase"] == "single"]
    lucky = alone.assign(variant="mlp", mean=alone["seed"].map({0: 0.0, 1: 0.0, 2: 200.0}))
    metrics = replace(made_up(), evaluations=pd.concat([evaluations, lucky]))
    row = table(metrics, "references").iloc[0]
    assert (row["random"], row["best"], row["best_variant"], row["seeds"]) == (0.0, 100.0, "alone", 3)


@pytest.mark.parametrize(
    ("random", "references", "problem"),
    [
        (None, True, "random score missing"),
        (0.0, False, "no reference"),
        (100.0, True, "reference not above random"),
        (200.0, True, "reference not above random"),
    ],
)
def test_without_a_usable_reference_there_is_no_score(random: float | None, references: bool, problem: str) -> None:
    metrics = made_up()
    scores = metrics.random_scores.set_index("env_id")
    scores = scores.drop("Pendulum-v1") if random is None else scores
    scores = scores.assign(mean=scores["mean"].where(scores.index != "Pendulum-v1", random)).reset_index()
    metrics = replace(metrics, random_scores=scores)
    if not references:
        env = metrics.evaluations["env_id"] == "Pendulum-v1"
        alone = env & (metrics.evaluations["phase"] == "single")
        metrics = replace(metrics, evaluations=metrics.evaluations[~alone])
    s4 = table(metrics, "scores").iloc[0]
    assert (s4["average"], s4["environments"]) == (81.0, 1)
    rows = table(metrics, "references").set_index("env_id")
    assert rows["problem"].to_dict() == {"CartPole-v1": "", "Pendulum-v1": problem, "Acrobot-v1": ""}


def test_without_references_returns_are_shown(tmp_path: Path) -> None:
    metrics = rows_of(made_up(), lambda rows: rows["phase"] != "single")
    assert table(metrics, "scores")["average"].isna().all()
    assert table(metrics, "environments")["return"].iloc[0] == 81.0
    row = table(metrics, "transfer").iloc[0]
    assert (row["ahead_at_quarter"], pd.isna(row["final"])) == ("1 of 1", True)
    assert not {"scores", "transfer", "ablations"} & figures(metrics).keys()
    text = page(metrics, tmp_path)
    assert "There are no normalised scores: the references are missing." in text
    assert "No normalised score in Pendulum-v1: no reference." in text


def test_a_failed_run_does_not_count_and_is_named(tmp_path: Path) -> None:
    metrics = with_status(made_up(), "failed", phase="pretrain", variant="s4", seeds=(2,))
    s4 = table(metrics, "scores").iloc[0]
    # Seeds 0 and 1 are left: means of 80.5 and 40.5.
    assert (s4["average"], s4["seeds"]) == (60.5, "2 of 3")
    text = page(metrics, tmp_path)
    assert "<li>pretrain, Agnostic S4, seed 2: failed</li>" in text
    assert "29 of 30 runs are done" in text


def test_unfinished_runs_are_drawn_where_none_is_done() -> None:
    metrics = with_status(made_up(), "unfinished", phase="pretrain", variant="mlp", seeds=SEEDS)
    figure = figures(metrics)["curves_pretrain"]
    assert legend(figure)[:2] == ["Agnostic S4", "Padded MLP"]
    assert "Unfinished runs are shown" in figure.caption
    assert table(metrics, "scores")["average"].isna().tolist()[:2] == [False, True]
    metrics = with_status(made_up(), "failed", phase="pretrain", variant="mlp", seeds=SEEDS)
    assert legend(figures(metrics)["curves_pretrain"])[:2] == ["Agnostic S4", "random actions"]


def test_only_what_has_run_is_in_the_report(tmp_path: Path) -> None:
    part = rows_of(made_up(), lambda rows: rows["phase"] == "pretrain")
    titles = re.findall("<h2.*?>(.*)</h2>", page(part, tmp_path))[:-1]
    assert titles == ["Results", "Learning curves", "Adaptation", "Ablations", "Gradients", "References", "Runs"]
    assert ExperimentScores(part).labels.keys() == {"s4", "mlp", "s4-bare"}
    assert re.findall("<h2.*?>(.*)</h2>", page(RawMetrics(experiment=INFO), tmp_path)) == ["How it was made"]


def test_each_base_has_figures_of_its_ablations_where_they_start_new() -> None:
    metrics = with_copy(made_up(), "variant", "mlp", VariantInfo(name="mlp-small", ablation_of="mlp"))
    drawn = figures(metrics)
    assert {name for name in drawn if name.startswith("curves")} == {
        "curves_pretrain",
        "curves_pretrain_s4",
        "curves_pretrain_mlp",
        "curves_scratch_mlp",
        "curves_transfer",
    }
    labels = legend(drawn["curves_pretrain_s4"])
    assert labels[:2] == ["Agnostic S4", "S4 without Transformer"] and "mlp-small" not in labels


def test_many_lines_have_no_bands() -> None:
    for copies, bands in ((5, 6), (6, 0)):
        metrics = rows_of(made_up(), lambda rows: rows["phase"] == "scratch")
        for index in range(copies):
            metrics = with_copy(metrics, "variant", "mlp", VariantInfo(name=f"copy{index}", ablation_of="mlp"))
        figure = figures(metrics)["curves_scratch_mlp"]
        assert ("Bands:" in figure.caption) == bool(bands)
        assert len(figure.figure.axes[0].collections) == bands
        styles = [tuple(style.values()) for style in variant_styles(ExperimentScores(metrics)).values()]
        assert len(set(styles)) == len(styles)


def test_ablations_are_points_with_intervals() -> None:
    axes = figures(made_up())["ablations"].figure.axes[0]
    row = table(made_up(), "ablations").iloc[0]
    points = [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o"]
    whiskers = [tuple(line.get_xdata()) for line in axes.lines if line.get_linewidth() == 1.4]
    assert points == [row["final"], row["while_learning"]]
    assert whiskers == [(row[f"{name}_low"], row[f"{name}_high"]) for name in ("final", "while_learning")]


def test_the_page_contains_everything_it_shows(report: Path) -> None:
    text = report.joinpath("report.html").read_text()
    assert "<title>A made-up experiment</title>" in text
    assert "Second &lt;paragraph&gt;." in text
    assert "<code>multienv experiment made-up.yaml</code>" in text
    for heading in ("Results", "Learning curves", "Transfer", "Ablations", "Gradients", "References", "Runs"):
        assert f"<h2>{heading}</h2>" in text
    images = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)" alt="\w', text)
    assert len(images) == len(list((report / "figures").iterdir())) == text.count("<img")
    assert all(base64.b64decode(image).decode().rstrip().endswith("</svg>") for image in images)
    assert not re.findall(r'(?:src|href)="(?!#|data:)', text)
    assert "<script" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([\w.-]+)"', text)) == set(ids)


def test_the_page_opens_with_three_sentences(report: Path) -> None:
    text = report.joinpath("report.html").read_text()
    opening = text[text.index("<p>") : text.index("</p>")]
    assert "4 variants and 3 seeds: 30 of 30 runs are done." in opening
    assert (
        "After the phase pretrain, Agnostic S4 has the highest average normalised score of 3 variants: 61.0" in opening
    )
    assert "Of 2 transfers, Agnostic S4 in the phase transfer gains most" in opening
    assert "40.0 points on average; after a quarter of the steps it is ahead in 1 of 1 environments" in opening


def test_a_table_is_csv_and_markdown(report: Path) -> None:
    names = [name for name, found in report_tables(ExperimentScores(made_up())).items() if len(found)]
    files = {f"{name}.{ending}" for name in names for ending in ("csv", "md")}
    assert {path.name for path in (report / "tables").iterdir()} == files
    lines = (report / "tables" / "scores.md").read_text().splitlines()
    assert lines[0].startswith("| phase | variant | average | median | worst | IQM [95% interval] | while learning |")
    assert lines[2].startswith("| pretrain | Agnostic S4 | 61.0 | 61.0 | 41.0 | 61.0 [")
    # A column without anything to say is not shown.
    assert "problem" not in (report / "tables" / "references.md").read_text()
    assert "problem" in (report / "tables" / "references.csv").read_text()


def test_figures_are_pictures(report: Path) -> None:
    for path in (report / "figures").iterdir():
        assert imread(path)[..., :3].std() > 0.01, f"{path.name} is blank"


def test_the_same_metrics_give_the_same_bytes_in_another_process_without_ray(report: Path, tmp_path: Path) -> None:
    write_raw_metrics(read_raw_metrics(report / "metrics"), tmp_path / "metrics")
    subprocess.run([sys.executable, "-c", WITHOUT_RAY, str(tmp_path)], check=True, cwd=Path(__file__).parents[2])
    files = sorted(path.relative_to(report) for path in report.rglob("*") if path.is_file())
    assert len(files) > 20
    for file in files:
        assert (report / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_the_command_makes_one_report_of_several_folders(report: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write_raw_metrics(rows_of(made_up(), lambda rows: rows["seed"] < 2), one / "metrics")
    write_raw_metrics(rows_of(made_up(), lambda rows: rows["seed"] == 2), other / "metrics")
    target = tmp_path / "page" / "index.html"
    result = CliRunner().invoke(app, ["report", str(one), str(other), "--output", str(target)])
    assert result.exit_code == 0, result.output
    assert "index.html" in result.output
    assert target.read_bytes() == (report / "report.html").read_bytes()
    for name in ("metrics", "tables", "figures"):
        for file in (report / name).iterdir():
            assert file.read_bytes() == (target.parent / name / file.name).read_bytes(), file
    # The page's folder is a part like any other, and may be the target.
    again = CliRunner().invoke(app, ["report", str(target.parent), str(other), "--output", str(target)])
    assert again.exit_code == 0, again.output
    assert read_raw_metrics(target.parent / "metrics").experiment == INFO


def test_the_command_names_what_is_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 1
    assert "has no folder metrics" in result.output
    write_raw_metrics(made_up(), tmp_path / "metrics")
    (tmp_path / "metrics" / "runs.csv").unlink()
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 1
    assert "metrics lacks runs.csv" in result.output


def test_several_folders_need_an_output_without_runs(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        write_raw_metrics(made_up(), folder / "metrics")
    (folders[0] / "runs").mkdir()
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    for options, message in (([], "--output"), (["--output", str(folders[0] / "all.html")], "contains runs")):
        result = CliRunner().invoke(app, ["report", *map(str, folders), *options])
        assert result.exit_code == 1
        assert message in result.output
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
