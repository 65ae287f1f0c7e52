"""What the pieces with running statistics share: their state, and its exact merge over runners."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from ray.rllib.connectors.connector_v2 import ConnectorV2

from rllib_multienv.normalization import Moments, SharedMoments


class SharedStatistics(ConnectorV2):
    """Keeps moments per env id, which RLlib collects from all runners, merges and sends back."""

    @abstractmethod
    def moments(self) -> Mapping[str, SharedMoments]:
        """The statistics of each environment."""

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        """``{env_id: {"base": moments, "delta": moments}}``."""
        return {
            env_id: {"base": shared.base.to_dict(), "delta": shared.delta.to_dict()}
            for env_id, shared in self.moments().items()
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over statistics; environments that this piece does not know are ignored."""
        for env_id, shared in self.moments().items():
            if env_id in state:
                shared.base = Moments.from_dict(state[env_id]["base"])
                shared.delta = Moments.from_dict(state[env_id]["delta"])

    def start_from(self, moments: Mapping[str, Moments]) -> None:
        """Go on from statistics that were collected elsewhere; environments that are not in them keep theirs."""
        for env_id, shared in self.moments().items():
            if env_id in moments:
                shared.base = moments[env_id]
                shared.delta = Moments.empty(len(shared.base.mean))

    def merge_states(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        """This piece's base with the deltas of all ``states``: the exact statistics of all runners together."""
        merged = {}
        for env_id, shared in self.moments().items():
            total = shared.merge_deltas(Moments.from_dict(s[env_id]["delta"]) for s in states if env_id in s)
            merged[env_id] = {"base": total.to_dict(), "delta": Moments.empty(len(total.mean)).to_dict()}
        return merged
