"""The agent that training starts from, as a configuration describes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_multienv.carry_over import carried_over_state
from rllib_multienv.checkpoints import check_network_config, read_checkpoint
from rllib_multienv.nets import (
    ActorCritic,
    NetConfig,
    env_key,
    frozen_parameters,
    owning_environments,
    parameters_of_parts,
)
from rllib_multienv.spec import SpaceSpec


class InitialAgentMixin(AlgorithmConfig):
    """Start from a checkpoint of this package, with parts of its network frozen, reset or shrunk.

    Attributes:
        space_specs: spaces of the environments, by env id.
        initial_checkpoint: the checkpoint's folder; None: start fresh.
        frozen_parts, reset_parts: names of parts of the network.
        initial_shrink: share of the checkpoint's parameters, in (0, 1].
    """

    space_specs: dict[str, SpaceSpec]

    def _set_initial_agent_defaults(self) -> None:
        """Called by constructors after RLlib's."""
        self.initial_checkpoint: str | None = None
        self.frozen_parts: tuple[str, ...] = ()
        self.reset_parts: tuple[str, ...] = ()
        self.initial_shrink = 1.0

    def initialize_from(
        self, path: str | Path, freeze: Sequence[str] = (), reset: Sequence[str] = (), shrink: float = 1.0
    ) -> Self:
        """Start from an agent that was trained on other environments.

        The network's shared weights are loaded strictly; the optimiser starts fresh. Observation and reward statistics,
        and parameters that belong to one environment (of ``SpecificNetConfig``, and with ``context="embedding"``), are
        kept for environments known by id and are fresh for new ones. Whether the checkpoint's network is the one of
        this configuration, and has the parts to be frozen, is checked by :meth:`validate`, before any worker starts.

        Args:
            path: A checkpoint of an algorithm of this package.
            freeze: Names of parts of the network that are not trained, such as ``"encoder"`` (all encoders) or
                ``"actor"``. Parameters of new environments cannot be frozen: nothing of them was learned yet.
            reset: Names of parts that begin anew, such as ``"actor.decoders.log_std"``: an agent that has become sure
                of itself explores little, also where it knows nothing.
            shrink: Share of the trained parameters in those that training begins with, in (0, 1]; the rest is a fresh
                network's. Networks that were trained before often learn what is new more slowly, and less well, than
                fresh ones; in between they do not (shrink and perturb, Ash and Adams 2020, arXiv 1910.08475). Frozen
                parts are taken whole.

        Raises:
            FileNotFoundError: There is no such checkpoint.
            ValueError: The folder is not one, or ``shrink`` is no such share.
        """
        if not 0.0 < shrink <= 1.0:
            raise ValueError(
                f"initialize_from(shrink={shrink!r}): must be above 0, which would be a fresh network, and at most 1."
            )
        read_checkpoint(path, weights=False)
        self.initial_checkpoint = str(Path(path).absolute())
        self.frozen_parts = (freeze,) if isinstance(freeze, str) else tuple(freeze)
        self.reset_parts = (reset,) if isinstance(reset, str) else tuple(reset)
        self.initial_shrink = float(shrink)
        return self

    def _validate_initial_agent(self, network: ActorCritic, config: NetConfig) -> None:
        """Check that a network of ``config`` can start from the checkpoint, and has the parts that are named."""
        frozen = frozen_parameters(network, self.frozen_parts)
        if both := frozen & parameters_of_parts(network, self.reset_parts, setting="reset"):
            self._value_error(f"{min(both)!r} would be frozen and reset at once: it would stay as it is at random.")
        if self.initial_checkpoint is not None:
            checkpoint = read_checkpoint(self.initial_checkpoint)
            check_network_config(checkpoint, config, self.initial_checkpoint)
            known = carried_over_state(checkpoint, network.state_dict(), self.space_specs, self.initial_checkpoint)
            if fresh := owning_environments(frozen - known.keys()):
                self._value_error(
                    f"freeze={list(self.frozen_parts)!r} would freeze parameters of {', '.join(sorted(fresh))}, which "
                    "are not in the checkpoint: they would stay as they are at random. Freeze parts that all "
                    "environments share, or those of known ones (such as "
                    f"{env_key(next(iter(checkpoint.space_specs)))!r})."
                )
