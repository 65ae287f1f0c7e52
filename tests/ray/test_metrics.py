"""Every metric of a result is in the glossary."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from iql_runs import iql_config, noise, running_iql
from tiny_runs import running, tiny_config

from rllib_multienv.metrics import GLOSSARY

pytestmark = pytest.mark.usefixtures("ray_cluster")

#: What a result says about the process and the run, beside metrics.
ABOUT_THE_RUN = {"config", "date", "done", "hostname", "node_ip", "pid", "trial_id", "experiment_tag"}


def keys(result: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Keys of a result, with `/` between their parts."""
    for key, value in result.items():
        if isinstance(value, Mapping) and key != "config":
            yield from keys(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}"


def unknown(result: Mapping[str, Any]) -> set[str]:
    """Keys that the glossary does not have."""
    places = {"ENV": "[^/]+-v[0-9]|cart", "OTHER": "[^/]+-v[0-9]", "GROUP": "actor|critic|value", "NUMBER": "[0-9]+"}
    patterns = [
        re.sub("ENV|OTHER|GROUP|NUMBER", lambda found: f"({places[found[0]]})", re.escape(key))
        for section in GLOSSARY.values()
        for key in section
    ]
    known = re.compile("|".join(f"(evaluation/)?({pattern})" for pattern in patterns))
    return {key for key in keys(result) if not known.fullmatch(key)} - ABOUT_THE_RUN


def test_results_of_ppo_have_no_metric_that_the_glossary_lacks() -> None:
    config = tiny_config(use_kl_loss=True, gradient_combiner="famo").reporting(gradient_cosine_interval=1)
    config.evaluation(evaluation_interval=1, evaluation_duration=1)
    with running(config) as algo:
        assert unknown(algo.train()) == set()
        algo.train()
        algo.remove_env("CartPole-v1")
        result = algo.train()
        assert unknown(result) == set()
        assert "gradient_norm" in result["learners"]["__all_modules__"]
        assert result["learners"]["InvertedPendulum-v4"]["critic_weight"] == 1.0  # the only environment


def test_results_of_iql_have_no_metric_that_the_glossary_lacks() -> None:
    config = iql_config({"CartPole-v1": noise(4, 2, discrete=True)})
    config.offline_data(reference_scores={"CartPole-v1": (22.0, 500.0)}).environment(envs=["CartPole-v1"])
    config.evaluation(evaluation_interval=1, evaluation_duration=1)
    with running_iql(config) as algo:
        result = algo.train()
    assert unknown(result) == set()
    assert {"qf_loss", "clipped_weights"} <= result["learners"]["CartPole-v1"].keys()
