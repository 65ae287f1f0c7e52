"""A file's scheduler becomes Tune's, and what Tune would ignore or fail at later is an error with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, PopulationBasedTraining
from ray.tune.search.sample import Float

from rllib_multienv.config_files import ConfigFile, ConfigFileError, build_tuner, load_config_file

ASHA = """\
environment: {envs: [CartPole-v1, Pendulum-v1]}
tune:
  metric: env_runners/episode_return_average
  mode: max
  scheduler:
    type: async_hyperband
    time_attr: num_env_steps_sampled_lifetime
    grace_period: 2000
    max_t: 8000
    reduction_factor: 2
"""
PBT = """\
environment: {envs: [CartPole-v1, Pendulum-v1]}
training:
  num_epochs: 3
  env_loss_weights: &weights {CartPole-v1: !loguniform [0.5, 2], Pendulum-v1: !loguniform [0.5, 2]}
tune:
  metric: env_runners/episode_return_average
  mode: max
  scheduler:
    type: pbt
    perturbation_interval: 5
    hyperparam_mutations:
      env_loss_weights: *weights
      actor_lr: [1e-3, 1e-4]
"""


def read(text: str, tmp_path: Path) -> ConfigFile:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    return load_config_file(path)


def scheduler(text: str, tmp_path: Path) -> object:
    return build_tuner(read(text, tmp_path), storage_path=tmp_path)._local_tuner._tune_config.scheduler


def test_successive_halving_gets_its_rungs(tmp_path: Path) -> None:
    asha = scheduler(ASHA, tmp_path)
    assert isinstance(asha, AsyncHyperBandScheduler)
    assert [milestone for milestone, _ in asha._brackets[0]._rungs] == [8000, 4000, 2000]


def test_mutations_become_tunes_samplers(tmp_path: Path) -> None:
    pbt = scheduler(PBT, tmp_path)
    assert isinstance(pbt, PopulationBasedTraining)
    mutations = pbt._hyperparam_mutations
    assert mutations["actor_lr"] == [1e-3, 1e-4]
    for domain in mutations["env_loss_weights"].values():
        assert isinstance(domain, Float) and (domain.lower, domain.upper) == (0.5, 2)


def test_mutations_are_no_search_spaces_of_the_trials(tmp_path: Path) -> None:
    weights = [f"training.env_loss_weights.{env_id}" for env_id in ("CartPole-v1", "Pendulum-v1")]
    assert list(read(PBT, tmp_path).search_spaces) == weights


def test_a_file_with_mutations_is_dumped_and_read_back(tmp_path: Path) -> None:
    file = read(PBT, tmp_path)
    again = read(file.dump(), tmp_path)
    assert again.tune == file.tune and again.methods == file.methods


# A file, what is changed in it, the line of the error, and what the message must say.
BAD = {
    "argument that Tune would drop": (ASHA, ("grace_period", "grace_peroid"), 8, ["'grace_peroid'", "'grace_period'"]),
    "unknown scheduler": (ASHA, ("async_hyperband", "async_hyperbnd"), 5, ["'async_hyperbnd'", "'async_hyperband'"]),
    "arguments that Tune refuses": (ASHA, ("max_t: 8000", "max_t: 800"), 5, ["grace_period must be <= max_t"]),
    "no metric": (ASHA, ("  metric: env_runners/episode_return_average\n", ""), 4, ["'async_hyperband'", "metric"]),
    "no mode": (ASHA, ("  mode: max\n", ""), 4, ["mode: max"]),
    "mode that stands twice": (ASHA, ("max_t:", "mode: max\n    max_t:"), 9, ["'mode'", "once"]),
    "metric of no result": (ASHA, ("env_runners/", "env_runner/"), 3, ["'env_runner'", "'env_runners'"]),
    "time of no result": (ASHA, ("attr: num_", "attr: number_"), 7, ["'num_env_steps_sampled_lifetime'"]),
    "mutation of an unknown setting": (PBT, ("actor_lr", "actor_rl"), 13, ["'actor_rl'", "'actor_lr'"]),
    "mutation with its method": (PBT, ("      actor_lr", "      training"), 13, ["'training'", "without its method"]),
    "mutation that is one value": (PBT, ("actor_lr: [1e-3, 1e-4]", "actor_lr: 1e-3"), 13, ["'actor_lr'", "list"]),
    "mutation by a choice": (PBT, ("actor_lr: [", "actor_lr: !choice ["), 13, ["plain list", "!choice"]),
    "mutation below a number": (PBT, ("actor_lr: [1e-3, 1e-4]", "actor_lr: {a: [1]}"), 13, ["'actor_lr'"]),
    "fractions of a whole number": (PBT, ("actor_lr: [1e-3, 1e-4]", "num_epochs: !uniform [1, 9]"), 13, ["rounded"]),
    "product of something unset": (PBT, ("actor_lr: [1e-3,", "lr_anneal_steps: !uniform [0,"), 13, ["first value"]),
    "no mutations at all": (PBT, (PBT[PBT.index("    hyperparam") :], ""), 8, ["hyperparam_mutations"]),
    "search space in another place": (PBT, ("interval: 5", "interval: !choice [5]"), 10, ["search space"]),
}


@pytest.mark.parametrize("what", BAD)
def test_the_message_says_where_and_what(what: str, tmp_path: Path) -> None:
    text, change, line, words = BAD[what]
    assert change[0] in text
    with pytest.raises(ConfigFileError) as caught:
        scheduler(text.replace(*change), tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'file.yaml'}:{line}: "), caught.value
    for word in words:
        assert word in str(caught.value)


def test_a_weight_without_a_first_value_is_named(tmp_path: Path) -> None:
    text = PBT.replace("&weights {CartPole-v1: !loguniform [0.5, 2], ", "{").replace(
        "*weights", "{CartPole-v1: [1, 2]}"
    )
    with pytest.raises(ConfigFileError, match=r"yaml:12: 'env_loss_weights\.CartPole-v1' has no first value"):
        scheduler(text, tmp_path)


def test_whole_numbers_can_be_mutated_as_such(tmp_path: Path) -> None:
    text = PBT.replace("actor_lr: [1e-3, 1e-4]", "num_epochs: !randint [1, 9]")
    assert isinstance(scheduler(text, tmp_path), PopulationBasedTraining)
