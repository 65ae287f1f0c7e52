"""Tags in a configuration file become Ray Tune's search spaces."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray import tune

from rllib_multienv.config_files import ConfigFile, SearchSpace, build_config, load_config_file

TEXT = """\
algorithm: PPO
environment: {env: CartPole-v1}
training:
  lr: !loguniform [1e-5, 1e-3]
  gamma: !grid_search [0.9, 0.99]
  num_epochs: !randint {lower: 1, upper: 4}
"""


@pytest.fixture
def file(tmp_path: Path) -> ConfigFile:
    path = tmp_path / "search.yaml"
    path.write_text(TEXT)
    return load_config_file(path)


def test_the_config_holds_tunes_samplers(file: ConfigFile) -> None:
    config = build_config(file)
    assert config.gamma == tune.grid_search([0.9, 0.99])
    assert isinstance(config.lr, tune.search.sample.Float) and config.lr.lower == 1e-5
    assert all(1 <= config.num_epochs.sample() < 4 for _ in range(20))


def test_the_places_of_all_search_spaces_are_known(file: ConfigFile) -> None:
    assert set(file.search_spaces) == {"training.lr", "training.gamma", "training.num_epochs"}


def test_one_example_can_be_validated(file: ConfigFile) -> None:
    config = build_config(file, examples=True)
    config.validate()
    assert config.gamma == 0.9 and 1e-5 <= config.lr <= 1e-3 and config.num_epochs in (1, 2, 3)


def test_a_grid_may_be_over_lists_of_environments() -> None:
    space = SearchSpace("grid_search", [["CartPole-v1"], ["CartPole-v1", "Pendulum-v1"]])
    assert space.to_tune() == {"grid_search": [["CartPole-v1"], ["CartPole-v1", "Pendulum-v1"]]}


def test_search_spaces_are_dumped_as_tags(file: ConfigFile, tmp_path: Path) -> None:
    path = tmp_path / "again.yaml"
    path.write_text(file.dump())
    assert load_config_file(path).search_spaces == file.search_spaces


@pytest.mark.parametrize(
    ("tag", "arguments"),
    [
        ("choice", [1, 2]),
        ("uniform", [0, 1]),
        ("quniform", [0, 1, 0.1]),
        ("qloguniform", [0.1, 1, 0.1]),
        ("qrandint", [0, 10, 2]),
        ("lograndint", [1, 10]),
        ("qlograndint", [2, 10, 2]),
        ("randn", [0, 1]),
        ("qrandn", [0, 1, 0.5]),
    ],
)
def test_every_tag_gives_a_sampler(tag: str, arguments: list[float]) -> None:
    assert isinstance(SearchSpace(tag, arguments).example(), int | float)
