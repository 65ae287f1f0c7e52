"""Which phase of training from scratch a transfer phase is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from rllib_multienv.evaluation.experiment_scores import ExperimentScores
from rllib_multienv.evaluation.raw_metrics import PhaseInfo, VariantInfo


@dataclass(frozen=True, kw_only=True)
class TransferPair:
    """A transfer phase and the phase of training from scratch on the same environments.

    Args:
        transfer, scratch: The phases.
        envs: The environments of both.
        variants: The variants in both.
    """

    transfer: PhaseInfo
    scratch: PhaseInfo
    envs: tuple[str, ...]
    variants: tuple[VariantInfo, ...]

    def steps(self, scores: ExperimentScores, variant: str, env_id: str) -> float | None:
        """The full length of training in an environment that both are measured against.

        What was planned; where nothing was, or less was done, as far as the longest curves of both reach.
        """
        ends = []
        for phase in (self.transfer, self.scratch):
            curves = scores.curves(phase.name, variant, env_id)
            if not curves:
                return None
            ends.append(max(curve.steps[-1] for curve in curves))
            if phase.steps_per_environment is not None:
                ends.append(phase.steps_per_environment)
        return min(ends)


def transfer_pairs(scores: ExperimentScores) -> list[TransferPair]:
    """One pair per transfer phase that has one to be compared with: the one that shares most environments."""
    pairs = []
    for transfer in scores.phases("transfer"):
        best: TransferPair | None = None
        for scratch in scores.phases("scratch"):
            envs = tuple(env_id for env_id in transfer.envs if env_id in scratch.envs)
            there = scores.variants(scratch)
            variants = tuple(variant for variant in scores.variants(transfer) if variant in there)
            if envs and variants and (best is None or len(envs) > len(best.envs)):
                best = TransferPair(transfer=transfer, scratch=scratch, envs=envs, variants=variants)
        if best is not None:
            pairs.append(best)
    return pairs
