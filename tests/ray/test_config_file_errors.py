"""What is wrong in a configuration file is said with its line and the name that was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from tune_pieces import CountEpisodes

from rllib_multienv.config_files import (
    ConfigFile,
    ConfigFileError,
    build_config,
    build_tuner,
    check_config_file,
    load_config_file,
)

# The file's text, the line of the error, and what the message must say.
BAD = {
    "unknown method": ("environment: {env: CartPole-v1}\ntrainig: {lr: 1}", 2, ["'trainig'", "'training'"]),
    "unknown argument": ("training:\n  gamma: 0.9\n  gamme: 0.9", 3, ["'gamme'", "'gamma'", "'training'"]),
    "argument that RLlib has dropped": ("env_runners:\n  num_rollout_workers: 2", 1, ["num_env_runners"]),
    "unknown stop criterion": ("stop: {time_totl_s: 3}", 1, ["'time_totl_s'", "'time_total_s'"]),
    "stop criterion that is no number": ("stop: {time_total_s: soon}", 1, ["time_total_s", "number"]),
    "unknown tune field": ("tune: {num_sample: 3}", 1, ["'num_sample'", "'num_samples'"]),
    "unknown field below tune": (
        "tune:\n  checkpoint_config:\n    checkpoint_freq: 3",
        3,
        ["'checkpoint_freq'", "'checkpoint_frequency'"],
    ),
    "unknown scheduler": ("tune: {scheduler: {type: ashaa}}", 1, ["scheduler"]),
    "unknown searcher": ("tune: {search_alg: {type: optunaa}}", 1, ["'optunaa'", "'optuna'"]),
    "unknown argument of a searcher": ("tune: {search_alg: {type: random, max_conc: 2}}", 1, ["'max_concurrent'"]),
    "argument of a searcher out of range": (
        "tune: {search_alg: {type: random, max_concurrent: -2}}",
        1,
        ["max_concurrent=-2: must be a whole number of at least 0"],
    ),
    "number of trials that is none": (
        "tune:\n  num_samples: three",
        2,
        ["num_samples='three': must be a whole number"],
    ),
    "no trials": ("tune:\n  num_samples: 0", 2, ["num_samples=0: must be a whole number of at least 1"]),
    "mode that is none": ("tune:\n  mode: maximum", 2, ["mode='maximum': must be 'max' or 'min'"]),
    "time that has passed": ("tune: {time_budget_s: -1}", 1, ["time_budget_s=-1: must be a number above 0"]),
    "no checkpoint to keep": (
        "tune:\n  checkpoint_config:\n    num_to_keep: 0",
        3,
        ["tune.checkpoint_config: num_to_keep=0: must be a whole number of at least 1"],
    ),
    "checkpoints by an unknown result": (
        "tune:\n  checkpoint_config:\n    checkpoint_score_attribute: env_runner/episode_return_mean",
        3,
        ["'env_runner'", "'env_runners'"],
    ),
    "half a failure": ("tune: {failure_config: {max_failures: 0.5}}", 1, ["max_failures=0.5: must be a whole number"]),
    "range upside down": ("training:\n  lr: !uniform [1.0e-3, 1.0e-4]", 2, ["!uniform", "below its upper end"]),
    "range that Tune refuses": ("training:\n  lr: !loguniform [0, 1.0e-4]", 1, ["greater than 0"]),
    "unknown algorithm": ("\nalgorithm: PPPO", 2, ["'PPPO'", "'PPO'"]),
    "misspelt algorithm of this package": ("algorithm: MultiEnvSCA", 1, ["'MultiEnvSAC'"]),
    "name of another library": (
        "algorithm: MultiEnvSAC\ntraining:\n  learning_starts: 100",
        3,
        ["'num_random_steps' or 'min_replay_size'"],
    ),
    "setting of another section": (
        "algorithm: MultiEnvSAC\ntraining: {seed: 1}",
        2,
        ["'debugging(seed=...)'"],
    ),
    "unknown tag": ("training:\n  lr: !grid_serch [1, 2]", 2, ["grid_serch", "grid_search"]),
    "tag with too few arguments": (
        "training:\n  lr: !loguniform [1]",
        2,
        ["!loguniform [lower, upper, base]"],
    ),
    "tag without a list": ("training:\n  lr: !choice 3", 2, ["!choice", "list"]),
    "search space where there can be none": ("stop: {time_total_s: !choice [1, 2]}", 1, ["search space"]),
    "key that stands twice": ("training:\n  lr: 1\n  lr: 2", 3, ["'lr'", "line 2"]),
    "key that stands twice beside a merged one": (
        "environment: {env: &b {a: 1}}\ntraining:\n  <<: *b\n  lr: 1\n  lr: 2",
        5,
        ["'lr'", "line 4"],
    ),
    "key that is no text": ("training:\n  1: 2", 2, ["1", "quotes"]),
    "method without keys": ("training: 3", 1, ["'training'", "keyword arguments"]),
    "no YAML": ("training: {lr: 1", 1, ["not valid YAML"]),
    "name that is no folder": ("name: ../up", 1, ["../up"]),
    "value that RLlib refuses": (
        "training: {lr: 1}\nfault_tolerance:\nmulti_agent: {policies: 3}",
        3,
        ["multi_agent"],
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_the_message_says_where_and_what(what: str, tmp_path: Path) -> None:
    text, line, words = BAD[what]
    path = tmp_path / "bad.yaml"
    path.write_text(text if "algorithm" in text else f"{text}\nalgorithm: PPO")
    with pytest.raises(ConfigFileError) as caught:
        file = load_config_file(path)
        build_tuner(file, storage_path=tmp_path)
        build_config(file).validate()
    assert str(caught.value).startswith(f"{path}:{line}: ") or what == "no YAML"
    for word in words:
        assert word in str(caught.value)


OPTIONS = {
    "second of a grid": ("training: {gamma: !grid_search [0.9, 99]}", "gamma=99: must be a number in"),
    "last of a choice": ("training: {num_epochs: !choice [1, 2, 2.5]}", "num_epochs=2.5: must be a whole number"),
    "low end of a range": ("training: {lr: !uniform [-1.0, 1.0e-3]}", "lr=-1.0: must be a number of at least 0"),
    "high end of a range": ("training: {lambda_: !quniform [0.5, 1.5, 0.5]}", "lambda_=1.5: must be a number in"),
    "field of the network": ("rl_module: {model_config: {width: !choice [8, 0], type: single}}", "width=0: must be"),
    "weight of an environment": (
        "training: {env_loss_weights: {CartPole-v1: !grid_search [1, -1]}}",
        "env_loss_weights=.*-1.*: must be",
    ),
    "mutation": (
        "training: {gamma: 0.9}\ntune: {metric: env_runners/episode_return_average, mode: max, scheduler: "
        "{type: pbt, hyperparam_mutations: {gamma: [0.9, 1.9]}}}",
        "gamma=1.9: must be a number in",
    ),
}


@pytest.mark.parametrize("what", OPTIONS)
def test_every_option_of_a_search_is_checked_before_it_starts(what: str, tmp_path: Path) -> None:
    text, problem = OPTIONS[what]
    path = tmp_path / "file.yaml"
    path.write_text(f"environment: {{envs: [CartPole-v1]}}\n{text}")
    with pytest.raises(ConfigFileError, match=rf"file\.yaml:[23]: .*{problem}"):
        check_config_file(load_config_file(path))


def test_options_that_are_all_right_pass(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(
        "environment: {envs: [CartPole-v1]}\n"
        "training: {lr: !loguniform [1e-4, 1e-3], gamma: !uniform [0, 1], num_epochs: !randint [1, 4]}\n"
        "tune: {num_samples: 2, search_alg: {type: random, max_concurrent: 1}}"
    )
    check_config_file(load_config_file(path))


def test_a_users_algorithm_is_named_with_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples")
    path = tmp_path / "file.yaml"
    path.write_text(
        "algorithm: custom_algorithm:A2C\nenvironment: {envs: [CartPole-v1]}\ntraining: {entropy_coeff: 0.5}"
    )
    config = check_config_file(load_config_file(path))
    assert (type(config).__name__, config.entropy_coeff) == ("A2CConfig", 0.5)
    for name, problem in (("A3C", "no 'A3C'.*'A2C'"), ("A2CConfig", "not a subclass of RLlib's Algorithm")):
        path.write_text(f"environment: {{envs: [CartPole-v1]}}\nalgorithm: custom_algorithm:{name}")
        with pytest.raises(ConfigFileError, match=rf"file\.yaml:2: algorithm: .*{problem}"):
            check_config_file(load_config_file(path))


def test_a_wrong_value_is_found_at_its_line(tmp_path: Path) -> None:
    text = "training:\n  lr: 1e-3\n  gamma: 99\n"
    with pytest.raises(ConfigFileError, match=r"file\.yaml:3: training: gamma=99: must be a number in \[0, 1\]\.$"):
        build_config(read(text, tmp_path))
    text = "training:\n  lr: 1e-3\n  model: {fcnet_hiddens: [64]}\n"
    with pytest.raises(ConfigFileError, match=r"file\.yaml:3: training\(model=...\) has no effect .*\.$"):
        build_config(read(text, tmp_path))


# A key of results, and what the message must say.
STOPS = {
    "environment": ("env_runners/module_episode_return_mean/CartPole-v0", ["'CartPole-v0'", "'CartPole-v1'"]),
    "evaluated environment": ("evaluation/env_runners/module_episode_return_mean/Cart", ["'Cart'", "'CartPole-v1'"]),
    "no environment": ("env_runners/module_episode_return_mean", ["module_episode_return_mean/CartPole-v1"]),
    "metric": ("env_runners/module_episode_returns_mean/CartPole-v1", ["'module_episode_return_mean'"]),
    "metric of nobody": ("env_runners/happiness", ["'happiness'", "episode_return_average"]),
    "learner's environment": ("learners/CartPole-v2/vf_loss", ["'CartPole-v2'", "'CartPole-v1'"]),
}


@pytest.mark.parametrize("what", STOPS)
@pytest.mark.parametrize("section", ["stop: {KEY: 475}", "tune: {metric: KEY, mode: max, scheduler: asha}"])
def test_a_result_that_never_comes_is_an_error(what: str, section: str, tmp_path: Path) -> None:
    key, words = STOPS[what]
    path = tmp_path / "bad.yaml"
    path.write_text(f"environment: {{envs: [CartPole-v1, Acrobot-v1]}}\n{section.replace('KEY', key)}\n")
    with pytest.raises(ConfigFileError) as caught:
        check_config_file(load_config_file(path))
    assert str(caught.value).startswith(f"{path}:2: ")
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "env_runners/module_episode_return_mean/CartPole-v1",
        "evaluation/env_runners/module_episode_return_mean/CartPole-v1",
        "env_runners/episode_return_worst",
        "learners/CartPole-v1/vf_loss",
        "learners/__all_modules__/gradient_norm",
        "num_env_steps_sampled_lifetime",
    ],
)
def test_results_that_come_can_stop_a_trial(key: str, tmp_path: Path) -> None:
    path = tmp_path / "good.yaml"
    path.write_text(f"environment: {{envs: [CartPole-v1]}}\nstop: {{{key}: 475}}\n")
    check_config_file(load_config_file(path))


def test_a_users_callbacks_may_give_metrics_of_any_name(tmp_path: Path) -> None:
    file = read("environment: {envs: [CartPole-v1]}\nstop: {env_runners/happiness: 1}\n", tmp_path)
    with pytest.raises(ConfigFileError, match="happiness"):
        check_config_file(file)
    check_config_file(file.override("callbacks.callbacks_class", CountEpisodes))


def read(text: str, tmp_path: Path) -> ConfigFile:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    return load_config_file(path)


def test_keys_replace_those_that_are_merged(tmp_path: Path) -> None:
    text = """\
environment:
  envs:
    - &base {id: CartPole-v1, num_envs: 4}
    - {<<: *base, id: second, make: Acrobot-v1}
"""
    file = read(text, tmp_path)
    assert file.methods["environment"]["envs"] == [
        {"id": "CartPole-v1", "num_envs": 4},
        {"id": "second", "num_envs": 4, "make": "Acrobot-v1"},
    ]
    config = check_config_file(file)
    assert [spec.id for spec in config.env_specs] == ["CartPole-v1", "second"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match=r"nowhere\.yaml: cannot be read"):
        load_config_file(tmp_path / "nowhere.yaml")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    with pytest.raises(ConfigFileError, match="empty"):
        load_config_file(path)
