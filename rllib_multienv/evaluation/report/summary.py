"""The head of the report: what was run, with what, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass

from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.report.missing import missing_notes
from rllib_multienv.evaluation.report.tables.table import Column, Table
from rllib_multienv.evaluation.report.text import count_text, duration_text, listing


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the head of the report says.

    Args:
        title: The report's title.
        description: Paragraphs below it.
        facts: Pairs of a name and what it is.
        phases: The phases of the experiment.
        missing: Sentences on results that are missing.
    """

    title: str
    description: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    phases: Table
    missing: tuple[str, ...]


def summarize(scores: ExperimentScores) -> Summary:
    """The head of the report of an experiment."""
    info, runs = scores.experiment, scores.metrics.runs
    states = {state: sum(run.status == state for run in runs) for state in ("done", "failed", "unfinished")}
    rest = [f"{number} {state}" for state, number in states.items() if number and state != "done"]
    facts = [
        ("Variants", "; ".join(variant.label for variant in info.variants)),  # there are commas in some
        ("Seeds", listing([str(seed) for seed in info.seeds])),
        ("Runs", f"{states['done']} done" + "".join(f", {part}" for part in rest)),
        ("Steps", f"{count_text(sum(run.env_steps or 0 for run in runs))} environment steps in all runs"),
        ("Training", f"{duration_text(sum(run.seconds or 0.0 for run in runs))} in all runs, one after the other"),
        ("Versions", ", ".join(f"{name} {text}" for name, text in sorted(info.versions.items()))),
        ("Machine", info.machine),
    ]
    return Summary(
        title=info.title or info.name,
        description=tuple(part.strip() for part in info.description.split("\n\n") if part.strip()),
        facts=tuple((name, text) for name, text in facts if text),
        phases=_phase_table(scores),
        missing=tuple(missing_notes(scores)),
    )


def _phase_table(scores: ExperimentScores) -> Table:
    return Table(
        name="phases",
        caption="The phases of the experiment; steps are planned ones, in each environment.",
        columns=(
            Column(key="phase", title="phase"),
            Column(key="kind", title="kind"),
            Column(key="from", title="begins with"),
            Column(key="steps_per_environment", title="steps", kind="count"),
            Column(key="environments", title="environments"),
        ),
        rows=tuple(
            (phase.name, phase.kind, phase.start_from, phase.steps_per_environment, ", ".join(phase.envs))
            for phase in scores.experiment.phases
        ),
    )
