"""Learning of the environments of a world from each other, with the settings of `tune_configs/worlds/`."""

from __future__ import annotations

from typing import Any

import pytest
from cli_helpers import ROOT
from tiny_runs import running

from rllib_multienv.config_files import build_config, load_config_file

pytestmark = pytest.mark.usefixtures("ray_cluster")

PAIR = [
    {"id": "oracle", "make": "multienv/Oracle-v0", "kwargs": {"horizon": 8, "at": 2}},
    {"id": "guess", "make": "multienv/Guess-v0", "kwargs": {"horizon": 8, "at": 6}},
]


def returns(name: str, env_id: str, iterations: int, settings: dict[str, Any] | None = None) -> float:
    """Mean return of an environment in evaluation, after training with a file and these changes."""
    file = load_config_file(ROOT / "tune_configs" / "worlds" / f"{name}.yaml")
    for path, value in (settings or {}).items():
        file = file.override(path, value)
    with running(build_config(file).evaluation(evaluation_interval=None)) as algo:
        for _ in range(iterations):
            algo.train()
        return float(algo.evaluate()["env_runners"]["module_episode_return_mean"][env_id])


@pytest.mark.parametrize(("credit", "least", "most"), [("joint", 0.9, 1.0), ("own", 0.15, 0.45)])
def test_search_looks_up_what_question_asks_for_with_joint_credit_alone(credit: str, least: float, most: float) -> None:
    settings = {"environment.worlds.library.credit": credit}
    assert least <= returns("query", "question", 120 if credit == "joint" else 40, settings) <= most


@pytest.mark.parametrize("third", [False, True])
def test_what_is_shown_is_remembered_until_it_is_asked_for_beside_an_irrelevant_member(third: bool) -> None:
    members = [*PAIR, {"id": "grid", "make": "multienv/GridNavi-v0"}] if third else PAIR
    assert returns("timed_oracle", "guess", 100, {"environment.worlds.quiz.envs": members}) >= 0.95


def test_copies_of_a_bandit_learn_from_each_other() -> None:
    assert returns("shared_bandits", "bandit", 215) >= 14.6
