"""The figures of a report: which there are, what is drawn in them, what their captions say."""

from __future__ import annotations

from experiment_metrics import made_up, with_copies, with_status

from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.raw_metrics import RawMetrics
from rllib_multienv.evaluation.report.ablations import ablations
from rllib_multienv.evaluation.report.figures.figure import ReportFigure, new_figure
from rllib_multienv.evaluation.report.figures.palette import variant_colors
from rllib_multienv.evaluation.report.sections import report_sections
from rllib_multienv.evaluation.report.tables.ablations import ablation_table


def _figures(metrics: RawMetrics, section_key: str) -> dict[str, ReportFigure]:
    scores = ExperimentScores(metrics)
    sections = report_sections(scores, variant_colors(scores))
    (section,) = (section for section in sections if section.key == section_key)
    return {figure.name: figure for figure in section.figures}


def test_each_base_has_figures_of_its_ablations_where_they_begin_anew() -> None:
    figures = _figures(with_copies(made_up(), "mlp", "mlp-small"), "ablations")
    assert set(figures) == {
        f"{kind}_{group}"
        for kind in ("differences", "ablations")
        for group in ("pretrain_s4", "pretrain_mlp", "scratch_mlp")  # not of transfer: the table has them
    }
    labels = [item.label for item in figures["ablations_pretrain_s4"].legend]
    assert labels[:2] == ["Agnostic S4", "S4 without Transformer"] and "mlp-small" not in labels


def test_many_lines_have_no_bands() -> None:
    few, many = (
        _figures(with_copies(made_up(), "mlp", *names), "ablations")["ablations_scratch_mlp"]
        for names in ("abcde", "abcdef")
    )
    assert "bands: 95%" in few.caption and "bands" not in many.caption
    for figure, bands in ((few, 6), (many, 0)):
        axes = new_figure((3, 3)).subplots()
        figure.panels[0].draw(axes, "#000000")
        assert len(axes.collections) == bands


def test_differences_are_points_with_intervals() -> None:
    axes = new_figure((3, 3)).subplots()
    _figures(made_up(), "ablations")["differences_pretrain_s4"].panels[0].draw(axes, "#000000")
    (row,) = ablation_table(ablations(ExperimentScores(made_up()))).rows
    points = [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o"]
    whiskers = [tuple(line.get_xdata()) for line in axes.lines if line.get_linewidth() == 1.3]
    assert points == [cell.value for cell in row[-2:]]
    assert whiskers == [(cell.low, cell.high) for cell in row[-2:]]


def test_captions_say_what_the_bands_are() -> None:
    def caption(metrics: RawMetrics) -> str:
        return _figures(metrics, "curves")["curves_pretrain"].caption

    assert "mean over 3 seeds; bands: 95% interval of the mean (Student's t)" in caption(made_up())
    fewer = made_up()
    for variant in ("s4", "mlp", "s4-bare"):
        fewer = with_status(fewer, "failed", phase="pretrain", variant=variant, seed=0)
    assert "mean over 2 seeds; bands: from the smallest to the largest seed." in caption(fewer)


def test_as_many_variants_as_experiments_have_differ_in_colour() -> None:
    scores = ExperimentScores(with_copies(made_up(), "mlp", *"abcdefghijklmn"))
    colors = variant_colors(scores)
    assert len(colors) == len(set(colors.values())) == 18
