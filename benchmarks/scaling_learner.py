"""The learner that `scaling.py` measures: times its stages, reduces gradients in several ways. Not to be run itself."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rllib_multienv.algorithms.ppo.learner import MultiEnvPPOLearner
from rllib_multienv.learners import MultiEnvTrainingData
from rllib_multienv.learners.gradients import all_reduce_sum
from rllib_multienv.learners.minibatches import Minibatch
from rllib_multienv.nets.kernels import KernelBank

FLAT, OVERLAPPED, SILENT = "flat", "overlapped", "silent"
NUM_BUCKETS = 8
WAITING, ALL_REDUCE = "waiting for the other learner", "all-reduce"


class OverlappedReduction:
    """The named alternative to one flat all-reduce: buckets that are reduced while backward still runs.

    Parameters are laid into buckets from the last to the first, about the order in which backward reaches them. A
    bucket goes off as soon as it is complete and those before it have gone off: the order must be the same on every
    rank. Which parameters the environments of a minibatch do not reach is learned from the first backward with
    these environments; afterwards their zeros are there from the start, for they would hold up every later bucket.
    """

    def __init__(self, parameters: Sequence[Tensor], group: Any) -> None:
        self._parameters = list(parameters)
        self._group = group
        total = sum(p.numel() for p in parameters)
        bounds = accumulate((p.numel() for p in reversed(parameters)), initial=0)
        self._bucket_of = [min(NUM_BUCKETS - 1, start * NUM_BUCKETS // total) for start in bounds][: len(parameters)]
        self._bucket_of.reverse()
        sizes = [0] * NUM_BUCKETS
        for parameter, bucket in zip(parameters, self._bucket_of, strict=True):
            sizes[bucket] += parameter.numel()
        self._flat = [parameters[0].new_zeros(size) for size in sizes]
        used = [0] * NUM_BUCKETS
        self._views = []
        for parameter, bucket in zip(parameters, self._bucket_of, strict=True):
            start = used[bucket]
            used[bucket] += parameter.numel()
            self._views.append(self._flat[bucket][start : used[bucket]].view_as(parameter))
        self._reached: dict[tuple[str, ...], frozenset[int]] = {}
        self._active = False
        for index, parameter in enumerate(parameters):
            parameter.register_post_accumulate_grad_hook(lambda p, i=index: self._arrived(i, p))

    def begin(self, env_ids: tuple[str, ...]) -> None:
        """Before backward over the losses of these environments."""
        self._active = True
        self._env_ids = env_ids
        self._works: list[Any] = []
        self._seen: set[int] = set()
        self._missing = [0] * NUM_BUCKETS
        expected = self._reached.get(env_ids)
        for index, bucket in enumerate(self._bucket_of):
            if expected is None or index in expected:
                self._missing[bucket] += 1
            else:
                self._views[index].zero_()
        if expected is None:
            self._missing = [count + 1 for count in self._missing]  # nothing goes off before `finish`
        self._send_complete()

    def finish(self, gradients: Sequence[Tensor]) -> None:
        """After backward: wait for all buckets; ``gradients`` of all parameters become the sums."""
        self._active = False
        for index, view in enumerate(self._views):
            if self._bucket_of[index] >= len(self._works) and index not in self._seen:
                view.zero_()
        self._missing = [0] * NUM_BUCKETS
        self._send_complete()
        self._reached[self._env_ids] = frozenset(self._seen)
        for work in self._works:
            work.wait()
        torch._foreach_copy_(list(gradients), self._views)

    def _arrived(self, index: int, parameter: Tensor) -> None:
        if not self._active:
            return
        bucket = self._bucket_of[index]
        if bucket < len(self._works):
            raise RuntimeError("A parameter was reached that the same environments did not reach before.")
        assert parameter.grad is not None
        self._views[index].copy_(parameter.grad)
        self._seen.add(index)
        self._missing[bucket] -= 1
        self._send_complete()

    def _send_complete(self) -> None:
        while len(self._works) < NUM_BUCKETS and self._missing[len(self._works)] == 0:
            flat = self._flat[len(self._works)]
            self._works.append(dist.all_reduce(flat, group=self._group, async_op=True))


class BenchmarkLearner(MultiEnvPPOLearner):
    """Times the stages of its steps, and reduces gradients in the way that is asked for."""

    reduction = FLAT
    separate_waiting = False  # whether learners meet before the all-reduce, so that waiting is not counted as it
    check_sums = False

    def build(self) -> None:
        super().build()
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}
        self._overlapped: OverlappedReduction | None = None
        self._last: Minibatch | None = None

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start, cpu_start = time.perf_counter(), time.process_time()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        self.cpu_seconds[stage] = self.cpu_seconds.get(stage, 0.0) + time.process_time() - cpu_start

    def update(self, **kwargs: Any) -> Any:
        self.seconds.clear()
        self.cpu_seconds.clear()
        with self._timed("update"):
            return super().update(**kwargs)

    def _step(self, minibatch: Minibatch) -> None:
        self._last = minibatch
        with self._timed("step"):
            super()._step(minibatch)

    def compute_gradients(self, loss_per_module: dict[str, Tensor], **kwargs: Any) -> dict[Any, Tensor]:
        if self.reduction == OVERLAPPED and self.distributed:
            if self._overlapped is None:
                self._overlapped = OverlappedReduction(list(self._params.values()), self._group)
            self._overlapped.begin(tuple(loss_per_module))
        with self._timed("backward"):
            return super().compute_gradients(loss_per_module, **kwargs)

    def reduce_gradients(self, gradients: list[Tensor]) -> None:
        if self.separate_waiting:
            with self._timed("wait"):
                dist.barrier(group=self._group)
        with self._timed("reduce"):
            if self.reduction == FLAT:
                super().reduce_gradients(gradients)
            elif self.reduction == OVERLAPPED:
                assert self._overlapped is not None
                own = [gradient.clone() for gradient in gradients] if self.check_sums else []
                self._overlapped.finish(gradients)
                if self.check_sums:
                    all_reduce_sum(own, self._group)
                    if not all(torch.equal(a, b) for a, b in zip(gradients, own, strict=True)):
                        raise RuntimeError("The overlapped all-reduce gives other gradients than the flat one.")

    def postprocess_gradients(self, gradients_dict: dict[Any, Tensor]) -> dict[Any, Tensor]:
        with self._timed("postprocess"):
            return super().postprocess_gradients(gradients_dict)

    def apply_gradients(self, gradients_dict: dict[Any, Tensor]) -> None:
        with self._timed("apply"):
            super().apply_gradients(gradients_dict)

    def stages(self) -> dict[str, tuple[float, float]]:
        """Seconds and CPU seconds of each stage of the last update."""
        wall, cpu = _exclusive(self.seconds), _exclusive(self.cpu_seconds)
        return {stage: (wall[stage], cpu[stage]) for stage in wall}

    def one_row_step(self) -> float:
        """CPU seconds of a step with one row of each environment: what does not get less with fewer rows."""
        assert self._last is not None
        columns = {env_id: {k: c[:1] for k, c in batch.items()} for env_id, batch in self._last.columns.items()}
        return _cpu_time(lambda: self._uncompiled_update(columns))

    def kernels_of_a_step(self) -> float:
        """CPU seconds for the S4 kernels of one step, forward and backward."""
        assert self._last is not None
        calls: list[tuple[KernelBank, int]] = []
        banks = [module for module in self.network.modules() if isinstance(module, KernelBank)]
        hooks = [bank.register_forward_pre_hook(lambda m, args: calls.append((m, args[0]))) for bank in banks]
        self.module.forward_train(self._last.columns)
        for hook in hooks:
            hook.remove()

        def compute() -> None:
            for bank, length in calls:
                bank.compute(length).sum().backward()

        return _cpu_time(compute)


def _exclusive(timed: dict[str, float]) -> dict[str, float]:
    """Each stage without those that lie within it."""
    wait, reduce = timed.get("wait", 0.0), timed.get("reduce", 0.0)
    return {
        "forward and losses": timed["step"] - timed["backward"] - timed["postprocess"] - timed["apply"],
        "backward": timed["backward"],
        WAITING: wait,
        ALL_REDUCE: reduce,
        "clipping and optimiser": timed["postprocess"] - wait - reduce + timed["apply"],
        "outside of steps (fetching, values, advantages, minibatches)": timed["update"] - timed["step"],
    }


def _cpu_time(function: Callable[[], Any], times: int = 3) -> float:
    """Median CPU seconds; unlike wall time they leave out how busy the machine is with other things."""
    function()
    found = []
    for _ in range(times):
        start = time.process_time()
        function()
        found.append(time.process_time() - start)
    return statistics.median(found)


@dataclass
class EverythingForAll(MultiEnvTrainingData):
    """Every learner trains on all rows, as if it were alone."""

    def shard(self, num_shards: int, *args: Any, **kwargs: Any) -> list[tuple[Any, dict[str, Any]]]:
        whole = MultiEnvTrainingData(fragments=self.fragments, num_fragments=self.num_fragments)
        return [(replace(whole), {}) for _ in range(num_shards)]
