"""Shares: the part of each environment that each learner trains on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

#: A learner's part may differ by this share of the mean load where that keeps an environment whole.
TOLERANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class Share:
    """The part of every minibatch of one environment that one learner takes: rows [start * n, stop * n) of n."""

    start: float = 0.0
    stop: float = 1.0

    def rows(self, first: int, last: int) -> slice:
        """This share of the rows from ``first`` to (without) ``last``.

        Bounds of neighbouring shares are computed from the same number, so that their rows meet without gap or overlap.
        """
        n = last - first
        return slice(first + round(self.start * n), first + round(self.stop * n))

    @property
    def is_whole(self) -> bool:
        """Whether no other learner has a part of the environment."""
        return self.start == 0.0 and self.stop == 1.0


#: Shares of one learner, by env id.
Shares = dict[str, Share]


def share_environments(
    costs: Mapping[str, float], num_learners: int, groups: Mapping[str, str] | None = None
) -> list[Shares]:
    """Give every learner the same load, cutting at most ``num_learners - 1`` environments.

    The environments are laid end to end on a line, each as long as its cost, and the line is cut into equal parts, one
    for each learner (McNaughton's wrap-around rule; docs/deviations.md, 17). A cut that comes within :data:`TOLERANCE`
    of an environment's edge moves there. With more learners than environments, some environments are cut into several
    parts; whatever the numbers, no environment is left out, and no learner is left without work.

    Args:
        costs: Cost of each environment. Their order is kept: neighbours are trained by the same learner.
        num_learners: Number of learners, at least one.
        groups: `EnvSpec.group` of the environments that are in worlds: those of one are cut at the same place.

    Returns:
        For each learner its shares.

    Raises:
        ValueError: There is no environment or no learner.
    """
    if not costs:
        raise ValueError("There are no environments to share out; pass at least one to `environment(envs=[...])`.")
    if num_learners < 1:
        raise ValueError(f"Environments need at least one learner to train on them, not {num_learners}.")
    groups = {env_id: (groups or {}).get(env_id, env_id) for env_id in costs}
    of_group: dict[str, float] = {}
    for env_id, group in groups.items():
        of_group[group] = of_group.get(group, 0.0) + costs[env_id]
    edges = [0.0]
    for cost in of_group.values():
        edges.append(edges[-1] + cost)
    part = edges[-1] / num_learners
    cuts = [_snapped(part * learner, edges, TOLERANCE * part) for learner in range(num_learners + 1)]
    shares: list[Shares] = []
    for first, last in pairwise(cuts):
        mine: Shares = {}
        for group, begin, end in zip(of_group, edges, edges[1:], strict=False):
            if begin < last and first < end:
                length = end - begin
                mine[group] = Share(
                    start=max(0.0, (first - begin) / length), stop=1.0 if end <= last else (last - begin) / length
                )
        shares.append({env_id: mine[group] for env_id, group in groups.items() if group in mine})
    return shares


def _snapped(cut: float, edges: Sequence[float], tolerance: float) -> float:
    nearest = min(edges, key=lambda edge: abs(edge - cut))
    return nearest if abs(nearest - cut) <= tolerance else cut


def describe_shares(shares: Sequence[Shares], costs: Mapping[str, float]) -> str:
    """One line for each learner: its share of the whole load, and its environments."""
    total = sum(costs.values())
    lines = []
    for learner, mine in enumerate(shares):
        load = sum((share.stop - share.start) * costs[env_id] for env_id, share in mine.items()) / total
        parts = [
            env_id if share.is_whole else f"{env_id} (rows {share.start:.0%} to {share.stop:.0%})"
            for env_id, share in mine.items()
        ]
        lines.append(f"learner {learner}: {load:.0%} of the load: {', '.join(parts)}")
    return "\n".join(lines)
