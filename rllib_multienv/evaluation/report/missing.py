"""Which results are missing, in sentences."""

from __future__ import annotations

from collections import defaultdict

from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.report.text import listing


def missing_notes(scores: ExperimentScores) -> list[str]:
    """One sentence per phase, variant and reason, as in ``"pretrain, S4: seeds 1 and 2 failed."``."""
    notes = []
    for phase in scores.experiment.phases:
        for variant in scores.variants(phase):
            by_seed: dict[tuple[int, str], list[str]] = defaultdict(list)
            for (seed, env_id), reason in scores.missing(phase, variant.name).items():
                by_seed[seed, reason].append(env_id)
            by_text: dict[tuple[str, str], list[int]] = defaultdict(list)
            for (seed, reason), env_ids in by_seed.items():
                everywhere = env_ids == [""] or len(env_ids) == len(phase.envs)
                by_text[reason, "" if everywhere else f" in {listing(env_ids)}"].append(seed)
            for (reason, where), seeds in by_text.items():
                name = "seed" if len(seeds) == 1 else "seeds"
                notes.append(
                    f"{phase.name}, {variant.label}: {name} {listing([str(s) for s in seeds])} {reason}{where}."
                )
    return notes
