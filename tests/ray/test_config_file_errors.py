"""What is wrong in a configuration file is said with its line and the name that was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from rllib_multienv.config_files import ConfigFileError, build_config, build_tuner, load_config_file

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
    "unknown algorithm": ("\nalgorithm: PPPO", 2, ["'PPPO'", "'PPO'"]),
    "unknown tag": ("training:\n  lr: !grid_serch [1, 2]", 2, ["grid_serch", "grid_search"]),
    "tag with too few arguments": (
        "training:\n  lr: !loguniform [1]",
        2,
        ["!loguniform [lower, upper, base]"],
    ),
    "tag without a list": ("training:\n  lr: !choice 3", 2, ["!choice", "list"]),
    "search space where there can be none": ("stop: {time_total_s: !choice [1, 2]}", 1, ["search space"]),
    "key that stands twice": ("training:\n  lr: 1\n  lr: 2", 3, ["'lr'", "line 2"]),
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


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match=r"nowhere\.yaml: cannot be read"):
        load_config_file(tmp_path / "nowhere.yaml")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    with pytest.raises(ConfigFileError, match="empty"):
        load_config_file(path)
