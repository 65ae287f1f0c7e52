"""A file that asks for more GPUs than there are is refused at once, instead of waiting for them for ever."""

from __future__ import annotations

import pytest
import torch
from cli_helpers import ROOT

from rllib_multienv.cli.session import check_gpus
from rllib_multienv.config_files import build_config, load_config_file


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> object:
    """Of four learners with a GPU each."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    return build_config(load_config_file(ROOT / "tune_configs" / "sixteen.yaml"))


def test_too_few_gpus_are_an_error_that_names_the_setting(config: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"4 GPUs and this machine has 2; --set learners\.num_gpus_per_learner=0"):
        check_gpus(config)


def test_enough_gpus_are_no_error(config: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    check_gpus(config)


def test_a_cluster_may_have_them_elsewhere(config: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    check_gpus(config)


def test_without_gpus_nothing_is_asked_of_the_machine(config: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    config.learners(num_gpus_per_learner=0)  # type: ignore[attr-defined]
    check_gpus(config)
