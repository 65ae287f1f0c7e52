"""The learner group: RLlib's, with timeouts, and errors that name the learner that failed."""

from __future__ import annotations

import time
from typing import Any, NoReturn

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.rllib.core.learner.learner_group import LearnerGroup

from rllib_multienv.learners.training_data import SharedTrainingData

#: When one learner fails, the errors that this causes in others may arrive a little earlier or later.
AFTERMATH_S = 5.0


class LearnerFailure(RuntimeError):
    """A learner died, raised, or did not answer in time; the update was not finished."""


class MultiEnvLearnerGroup(LearnerGroup):
    """RLlib's learner group, with a bound on how long an update may take.

    RLlib waits for all learners without a limit, and where one dies it reports whichever error comes first in its list,
    which may be that of another learner that lost its connection. Learners are not replaced one by one: the parameters
    of an update that some have made and some have not are worth nothing. The run fails, and Tune's ``FailureConfig``
    resumes from the last checkpoint.
    """

    def update(
        self, *, training_data: SharedTrainingData, timesteps: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Any]:
        """Update all learners, and wait for them.

        Args:
            training_data: Fragments of all environments.
            timesteps: Counters for schedules.
            kwargs: Passed to the learners' ``update``.

        Returns:
            The metrics of each learner.

        Raises:
            LearnerFailure: A learner died or raised, or ``learner_timeout_s`` is over.
        """
        if self.is_local:
            return [self._learner.update(training_data=training_data, timesteps=timesteps, **kwargs)]
        shards = training_data.shard(num_shards=len(self))
        pending = {
            worker.update.remote(training_data=shard, timesteps=timesteps, **kwargs): index
            for index, (worker, (shard, _)) in enumerate(zip(self._workers, shards, strict=True))
        }
        references = list(pending)
        deadline = time.monotonic() + self.config.learner_timeout_s
        while pending:
            ready, _ = ray.wait(list(pending), timeout=max(0.0, deadline - time.monotonic()))
            if not ready:
                # Those that only waited for another learner give up now, too.
                _, silent = ray.wait(list(pending), num_returns=len(pending), timeout=AFTERMATH_S)
                indices = sorted(pending[reference] for reference in silent or pending)
                late = ", ".join(f"{i} ({', '.join(shards[i][0].shares)})" for i in indices)
                raise LearnerFailure(
                    f"Waited {self.config.learner_timeout_s:g} s for an update of {len(self)} learners; no answer from "
                    f"learner {late}. If updates take longer than that, raise learners(learner_timeout_s=...)."
                )
            try:
                ray.get(ready[0])
            except (RayActorError, RayTaskError) as error:
                self._raise_cause(pending.pop(ready[0]), error, pending)
            pending.pop(ready[0])
        return ray.get(references)

    def foreach_learner(self, func: Any, *, timeout_seconds: float | None = None, **kwargs: Any) -> Any:
        """RLlib's, with a limit on how long it waits for a learner.

        Raises:
            LearnerFailure: Not all learners answered in time.
        """
        timeout_s = self.config.learner_timeout_s if timeout_seconds is None else timeout_seconds
        results = super().foreach_learner(func, timeout_seconds=timeout_s, **kwargs)
        if self.is_remote:
            asked = set(kwargs.get("remote_actor_ids") or self._worker_manager.healthy_actor_ids())
            if late := asked - {result.actor_id for result in results}:
                raise LearnerFailure(f"Waited {timeout_s:g} s for learners {sorted(late)}, which did not answer.")
        return results

    def _raise_cause(self, index: int, error: Exception, pending: dict[ray.ObjectRef, int]) -> NoReturn:
        """Raise the error of the learner that failed first: where one dies, the others lose their connection to it."""
        if isinstance(error, RayTaskError):
            ready, _ = ray.wait(list(pending), num_returns=len(pending), timeout=AFTERMATH_S) if pending else ([], [])
            for reference in ready:
                try:
                    ray.get(reference)
                except RayActorError as death:
                    index, error = pending[reference], death
                except RayTaskError:
                    pass
        place = f"Learner {index} of {len(self)}"
        if isinstance(error, RayActorError):
            raise LearnerFailure(
                f"{place} died during an update, so the update was not finished. Resume from the last checkpoint "
                f"(tune.FailureConfig does it by itself). {type(error).__name__}: {error}"
            ) from error
        raise LearnerFailure(
            f"{place} failed during an update, so the update was not finished. An error in a loss, a connector or a "
            "callback will come again: correct it, then resume from the last checkpoint. "
            f"{type(error).__name__}: {error}"
        ) from error
