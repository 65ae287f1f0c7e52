"""Parameters between those of a trained network and of a fresh one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from rllib_multienv.nets import is_in_parts


def shrink_and_perturb(
    trained: Mapping[str, np.ndarray], fresh: Mapping[str, np.ndarray], *, share: float, whole: Iterable[str] = ()
) -> dict[str, np.ndarray]:
    """``share * trained + (1 - share) * fresh`` (Ash and Adams 2020, arXiv 1910.08475).

    The noise that is added to the shrunk parameters is a fresh network's, which has the right size for every layer.

    Args:
        trained: Parameters by name.
        fresh: The same of a network that has not learned anything; it may have others besides.
        share: In (0, 1].
        whole: Parts whose trained parameters are taken as they are (see
            :func:`~rllib_multienv.modules.network_parts.is_in_parts`).
    """
    if share == 1.0:
        return dict(trained)
    parts = tuple(whole)
    return {
        name: value if is_in_parts(name, parts) else (share * value + (1.0 - share) * fresh[name]).astype(value.dtype)
        for name, value in trained.items()
    }
