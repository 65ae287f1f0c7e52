"""What 0 and 100 are: random actions, and the best agent trained in the environment alone."""

from __future__ import annotations

from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.report.tables.table import Column, Table


def reference_table(scores: ExperimentScores) -> Table:
    """Random score, best reference and which variant it is, by environment."""
    labels = {variant.name: variant.label for variant in scores.experiment.variants}
    random = {score.env_id: score for score in scores.metrics.random_scores}
    rows = []
    for env_id, reference in scores.references.items():
        score = random.get(env_id)
        rows.append(
            (
                env_id,
                reference.random,
                score.std if score else None,
                score.episodes if score else None,
                reference.best,
                labels.get(reference.variant),
                reference.seeds or None,
                reference.problem,
                score.versions if score else None,
                score.env_name if score and score.env_name != env_id else None,
            )
        )
    return Table(
        name="references",
        caption="Random actions (0 of the normalised score) and the best agent trained in the environment alone (100).",
        columns=(
            Column(key="env_id", title="environment"),
            Column(key="random", title="random", kind="number"),
            Column(key="random_std", title="std", kind="number"),
            Column(key="random_episodes", title="episodes", kind="count"),
            Column(key="reference", title="best alone", kind="number"),
            Column(key="reference_variant", title="which"),
            Column(key="reference_seeds", title="seeds", kind="count"),
            Column(key="problem", title="no score because", optional=True),
            Column(key="versions", title="versions"),
            Column(key="env_name", title="made from", optional=True),
        ),
        rows=tuple(rows),
        notes=(
            "Random: mean and standard deviation of the return per episode. Best alone: the best variant's mean, over "
            "seeds, of the final evaluation.",
        ),
    )
