"""Settings: types, ranges, settings of RLlib without effect, documentation, copies."""

from __future__ import annotations

import dataclasses
import inspect
import pydoc
import re
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

import cloudpickle
import numpy as np
import pytest
from iql_runs import iql_config, noise
from ray import tune
from ray.rllib.algorithms.algorithm_config import NotProvided
from ray.tune.search.variant_generator import generate_variants
from tiny_runs import tiny_config

from rllib_multienv import (
    AgnosticNetConfig,
    CARENetConfig,
    MLPNetConfig,
    MultiEnvIQLConfig,
    MultiEnvPPOConfig,
    MultiEnvSACConfig,
    SoftModularNetConfig,
    SpecificNetConfig,
)
from rllib_multienv.algorithms.settings import Count, PerEnvironment, Positive, setters, settings
from rllib_multienv.foreign_names import FOREIGN_NAMES

NAN, INF = float("nan"), float("inf")
Config = MultiEnvPPOConfig | MultiEnvIQLConfig


@pytest.fixture(params=["ppo", "iql"])
def config(request: pytest.FixtureRequest) -> Config:
    return tiny_config() if request.param == "ppo" else iql_config({"CartPole-v1": noise(4, 2, discrete=True)})


# Types and ranges

WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("training", {"lr": NAN}, r"lr=nan: must be a number of at least 0 or a schedule"),
    ("training", {"lr": -1}, r"lr=-1: must be a number of at least 0"),
    ("training", {"lr": True}, r"lr=True: must be a number"),
    ("training", {"lr": "1e-3"}, r"lr='1e-3': must be a number"),
    ("training", {"lr": [[1, 1e-3], [5, 0.0]]}, r"lr=.*a schedule \[\[0, value\]"),
    ("training", {"lr": [[0, 1e-3]]}, r"lr=.*a schedule"),
    ("training", {"lr": [[0, 1e-3], [5, 1e-4], [5, 0.0]]}, r"lr=.*a schedule"),
    ("training", {"lr": [[0, 1e-3], [5, -1e-4]]}, r"lr=.*a schedule"),
    ("training", {"gamma": 99}, r"gamma=99: must be a number in \[0, 1\]"),
    ("training", {"gamma": [[0, 0.9], [5, 0.99]]}, r"gamma=.*must be a number in \[0, 1\]\."),
    ("training", {"grad_clip": 0}, r"grad_clip=0: must be a number above 0 or None"),
    ("training", {"grad_clip": INF}, r"grad_clip=inf: must be a number above 0 or None"),
    ("training", {"grad_clip_by": "value"}, r"grad_clip_by='value': must be one of 'global_norm', 'env"),
    ("training", {"adam_epsilon": 0.0}, r"adam_epsilon=0.0: must be a number above 0"),
    ("training", {"normalize_obs": "no"}, r"normalize_obs='no': must be True or False"),
    ("training", {"precision": "fp16"}, r"precision='fp16': must be 'float32' or 'bf16'"),
    ("training", {"env_loss_weights": {"CartPole-v1": -1}}, r"env_loss_weights=.*a number of at least 0"),
    ("training", {"env_loss_weights": [1.0]}, r"env_loss_weights=\[1.0\]: must be a mapping from env ids"),
    ("environment", {"on_nonfinite": "ignore"}, r"on_nonfinite='ignore': must be 'raise' or 'drop'"),
    ("env_runners", {"num_env_runners": -1}, r"num_env_runners=-1: must be a whole number of at least 0"),
    ("env_runners", {"num_envs_per_env_runner": 2.0}, r"num_envs_per_env_runner=2.0: must be a whole number"),
    ("env_runners", {"rollout_fragment_length": 0}, r"rollout_fragment_length=0: must be a whole number .* or 'auto'"),
    ("env_runners", {"sample_timeout_s": INF}, r"sample_timeout_s=inf: must be a number above 0"),
    ("env_runners", {"explore": 1}, r"explore=1: must be True or False"),
    ("learners", {"num_learners": 1.5}, r"num_learners=1.5: must be a whole number"),
    ("learners", {"learner_timeout_s": 0}, r"learner_timeout_s=0: must be a number above 0"),
    ("evaluation", {"evaluation_duration": "all"}, r"evaluation_duration='all': must be .* or 'auto'"),
    ("reporting", {"gradient_cosine_interval": 0}, r"gradient_cosine_interval=0: must be a whole number"),
    ("debugging", {"seed": 1.5}, r"seed=1.5: must be a whole number"),
    ("resources", {"worker_startup_timeout_s": -1}, r"worker_startup_timeout_s=-1: must be a number above 0"),
    (
        "fault_tolerance",
        {"restart_failed_env_runners": None},
        r"restart_failed_env_runners=None: must be True or False",
    ),
]
WRONG_IN_PPO = [
    ("training", {"num_epochs": 10.0}, r"num_epochs=10.0: must be a whole number of at least 1"),
    ("training", {"num_minibatches": True}, r"num_minibatches=True: must be a whole number"),
    ("training", {"lambda_": 1.01}, r"lambda_=1.01: must be a number in \[0, 1\]"),
    ("training", {"clip_param": 0}, r"clip_param=0: must be a number above 0"),
    ("training", {"entropy_coeff": [[0, 0.1], [5, 0.0]]}, r"entropy_coeff=.*: must be a number of at least 0"),
    ("training", {"kl_coeff": -0.1}, r"kl_coeff=-0.1: must be a number of at least 0"),
    ("training", {"lr_anneal_steps": 0}, r"lr_anneal_steps=0: must be a whole number of at least 1 or None"),
    ("env_runners", {"sample_ahead": "yes"}, r"sample_ahead='yes': must be True or False"),
]
WRONG_IN_IQL = [
    ("training", {"expectile": 1.0}, r"expectile=1.0: must be a number in \(0, 1\)"),
    ("training", {"tau": 0.0}, r"tau=0.0: must be a number in \(0, 1\]"),
    ("training", {"beta": NAN}, r"beta=nan: must be a number of at least 0"),
    ("training", {"batch_size": 0}, r"batch_size=0: must be a whole number of at least 1"),
    ("training", {"reward_normalization": "std"}, r"reward_normalization='std': must be one of .*'standardize'"),
    ("offline_data", {"reference_scores": {"CartPole-v1": (9, 1)}}, r"reference_scores\['CartPole-v1'\].*above"),
    ("offline_data", {"reference_scores": {"CartPole-v1": 3}}, r"reference_scores=.*\(random return, expert return\)"),
]
CASES = [
    *((make, *case) for make in (MultiEnvPPOConfig, MultiEnvIQLConfig) for case in WRONG),
    *((MultiEnvPPOConfig, *case) for case in WRONG_IN_PPO),
    *((MultiEnvIQLConfig, *case) for case in WRONG_IN_IQL),
]


@pytest.mark.parametrize(("make", "method", "given", "message"), CASES)
def test_a_wrong_value_is_refused_where_it_is_given(
    make: Callable[[], Any], method: str, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(make(), method)(**given)


@pytest.mark.parametrize(("name", "value"), [("gamma", 99), ("num_learners", -1), ("on_nonfinite", "ignore")])
def test_a_wrong_value_that_no_method_saw_is_refused_before_anything_starts(
    config: Config, name: str, value: Any
) -> None:
    for changed in (config.copy(copy_frozen=False), type(config).from_dict({**config.to_dict(), name: value})):
        setattr(changed, name, value)
        with pytest.raises(ValueError, match=f"{name}={value!r}: must be"):
            changed.validate()


@pytest.mark.parametrize("value", [1, np.float32(0.5), np.int64(1)])
def test_whole_numbers_and_numpys_are_numbers(config: Config, value: Any) -> None:
    config.training(gamma=value, lr=value).validate()
    assert config.gamma == value


def test_a_schedule_is_a_learning_rate(config: Config) -> None:
    config.training(lr=[(0, 1e-3), (1e6, 0)]).validate()


def test_evaluations_overrides_are_checked(config: Config) -> None:
    config.environment(envs=["CartPole-v1"])
    config.evaluation(evaluation_interval=1, evaluation_config={"explore": "no"})
    with pytest.raises(ValueError, match="explore='no': must be True or False"):
        config.validate()


def test_overrides_of_one_environment_are_checked(config: Config) -> None:
    config.rl_module(algorithm_config_overrides_per_module={"CartPole-v1": {"gamma": 2}})
    with pytest.raises(ValueError, match=r"\['CartPole-v1'\]: gamma=2: must be a number in \[0, 1\]"):
        config.validate()


def test_a_setting_that_changes_reaches_environments_with_overrides(config: Config) -> None:
    name = "lambda_" if isinstance(config, MultiEnvPPOConfig) else "expectile"
    config.rl_module(algorithm_config_overrides_per_module={"CartPole-v1": {"gamma": 0.5}})
    config.validate()
    assert config.get_config_for_module("CartPole-v1").gamma == 0.5
    config.training(**{name: 0.25}).validate()
    own = config.get_config_for_module("CartPole-v1")
    assert (own.gamma, getattr(own, name)) == (0.5, 0.25)


# Names


@pytest.mark.parametrize(
    ("method", "given", "instead"),
    [
        ("training", {"model": {"fcnet_hiddens": [64]}}, r"rl_module\(model_config=...\)"),
        ("training", {"optimizer": {}}, "adam_epsilon"),
        ("training", {"shuffle_batch_per_epoch": False}, "always shuffled"),
        ("multi_agent", {"policies": {"a", "b"}}, r"algorithm_config_overrides_per_module"),
        ("multi_agent", {"policies_to_train": ["a"]}, r"environment\(envs=\[...\]\)"),
        ("env_runners", {"batch_mode": "complete_episodes"}, "rollout_fragment_length"),
        ("env_runners", {"observation_filter": "MeanStdFilter"}, "normalize_obs"),
        ("env_runners", {"gym_env_vectorize_mode": "async"}, r"EnvSpec\(..., backend="),
        ("env_runners", {"create_local_env_runner": False}, "statistics"),
        ("env_runners", {"add_default_connectors_to_env_to_module_pipeline": True}, "always added"),
        ("environment", {"env": "CartPole-v1"}, r"environment\(envs=\["),
        ("environment", {"env_config": {"a": 1}}, r"EnvSpec\(..., kwargs=\{...\}\)"),
        ("environment", {"clip_actions": True}, "action spaces"),
        ("learners", {"num_aggregator_actors_per_learner": 1}, "no aggregator actors"),
        ("rl_module", {"rl_module_spec": object()}, "model_config"),
        ("resources", {"num_gpus": 1}, "num_gpus_per_learner"),
        ("framework", {"torch_ddp_kwargs": {"a": 1}}, "DistributedDataParallel"),
        ("offline_data", {"input_": "file.json"}, "MultiEnvIQL|datasets"),
        ("evaluation", {"off_policy_estimation_methods": {"a": 1}}, "environments"),
        ("evaluation", {"num_offline_eval_runners": 1}, "environments"),
        ("checkpointing", {"export_native_model_files": True}, "CheckpointConfig"),
    ],
)
def test_a_setting_of_rllib_without_effect_is_refused(
    config: Config, method: str, given: dict[str, Any], instead: str
) -> None:
    (name,) = given
    message = rf"{method}\({name}=...\) has no effect with {type(config).__name__}.*({instead})"
    with pytest.raises(ValueError, match=message):
        getattr(config, method)(**given)


@pytest.mark.parametrize(
    ("make", "name", "instead"),
    [
        (MultiEnvPPOConfig, "train_batch_size", "rollout_fragment_length"),
        (MultiEnvPPOConfig, "train_batch_size_per_learner", "rollout_fragment_length"),
        (MultiEnvPPOConfig, "minibatch_size", "num_minibatches"),
        (MultiEnvPPOConfig, "entropy_coeff_schedule", "takes a number"),
        (MultiEnvSACConfig, "train_batch_size", "batch_size"),
        (MultiEnvSACConfig, "minibatch_size", "batch_size"),
        (MultiEnvIQLConfig, "train_batch_size", "batch_size"),
        (MultiEnvIQLConfig, "num_epochs", "batch_size"),
    ],
)
def test_batches_are_set_by_other_names(make: Callable[[], Any], name: str, instead: str) -> None:
    with pytest.raises(ValueError, match=rf"training\({name}=...\) has no effect.*{instead}"):
        make().training(**{name: 64})


@pytest.mark.parametrize(
    ("name", "value"),
    [("train_batch_size", 123), ("batch_mode", "complete_episodes"), ("env", "CartPole-v1"), ("env_config", {"a": 1})],
)
def test_tunes_parameter_space_cannot_set_what_has_no_effect(config: Config, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"\({name}=...\) has no effect"):
        type(config).from_dict({**config.to_dict(), name: value}).validate()


def test_misspelt_settings_are_named(config: Config) -> None:
    with pytest.raises(TypeError, match=r"training\(actr_lr=...\): there is no setting 'actr_lr'.*'actor_lr'"):
        config.training(actr_lr=1e-3)
    with pytest.raises(TypeError, match=r"callbacks\(on_trian_result=...\).*'on_train_result'"):
        config.callbacks(on_trian_result=print)
    with pytest.raises(ValueError, match=r"no setting 'actr_lr'.*'actor_lr'"):
        type(config).from_dict({**config.to_dict(), "actr_lr": 1e-3}).validate()


@pytest.mark.parametrize(
    ("make", "method", "name", "ours"),
    [
        (MultiEnvPPOConfig, "training", "learning_rate", "'lr'"),
        (MultiEnvPPOConfig, "training", "ent_coef", "'entropy_coeff'"),
        (MultiEnvPPOConfig, "training", "num_envs", "'env_runners(num_envs_per_env_runner=...)'"),
        (MultiEnvPPOConfig, "training", "seed", "'debugging(seed=...)'"),
        (MultiEnvSACConfig, "training", "ent_coef", "'initial_alpha'"),
        (MultiEnvSACConfig, "training", "buffer_size", "'replay_capacity'"),
        (MultiEnvSACConfig, "training", "learning_starts", "'num_random_steps' or 'min_replay_size'"),
        (MultiEnvSACConfig, "training", "train_freq", "'update_to_data_ratio'"),
        (MultiEnvSACConfig, "training", "target_update_interval", "'tau'"),
        (MultiEnvSACConfig, "env_runners", "hidden_sizes", "'rl_module(model_config=...)'"),
    ],
)
def test_names_of_other_libraries_are_answered_with_ours(
    make: Callable[[], Any], method: str, name: str, ours: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(f"there is no setting {name!r}. Did you mean {ours}?")):
        getattr(make(), method)(**{name: 1})


def test_attributes_with_names_of_other_libraries_are_answered_with_ours() -> None:
    config = MultiEnvSACConfig().environment(envs=["Pendulum-v1"])
    config.learning_rate = 1e-3  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"There is no setting 'learning_rate'. Did you mean 'lr'?"):
        config.validate()
    config = MultiEnvSACConfig().environment(envs=["Pendulum-v1"])
    config.rl_module(algorithm_config_overrides_per_module={"Pendulum-v1": {"learning_starts": 5}})
    with pytest.raises(ValueError, match=r"'learning_starts' cannot differ .* Did you mean 'num_random_steps'?"):
        config.validate()


def test_names_of_other_libraries_stand_for_settings_that_exist() -> None:
    configs = (MultiEnvPPOConfig, MultiEnvSACConfig, MultiEnvIQLConfig)
    networks = (AgnosticNetConfig, MLPNetConfig, SpecificNetConfig, SoftModularNetConfig, CARENetConfig)
    takes = {name for cls in configs for setter in setters(cls).values() for name in setter.takes}
    fields = {field.name for network in networks for field in dataclasses.fields(network)}
    assert {ours for names in FOREIGN_NAMES.values() for ours in names} <= takes | fields


# Search spaces


@pytest.mark.parametrize("make", [MultiEnvPPOConfig, MultiEnvIQLConfig])
def test_a_learning_rate_is_drawn_once(make: Callable[[], Any]) -> None:
    space = make().training(lr=tune.grid_search([1e-4, 1e-3])).to_dict()
    drawn = [make().update_from_dict(variant).learning_rates() for _, variant in generate_variants(space)]
    assert [set(rates.values()) for rates in drawn] == [{1e-4}, {1e-3}]


def test_search_spaces_are_checked_after_they_are_drawn() -> None:
    config = tiny_config().training(gamma=tune.grid_search([0.9, 1.9]))
    with pytest.raises(ValueError, match=r"gamma=.*only tune.Tuner draws from a search space"):
        config.validate()
    first, second = (MultiEnvPPOConfig().update_from_dict(v) for _, v in generate_variants(config.to_dict()))
    first.validate()
    with pytest.raises(ValueError, match=r"gamma=1.9: must be a number in \[0, 1\]"):
        second.validate()


# What follows from a declaration


def test_help_shows_this_packages_settings_first_with_their_defaults() -> None:
    text = pydoc.plain(pydoc.render_doc(MultiEnvPPOConfig.training))
    places = [text.index(words) for words in ("lambda_ = 0.95: Lambda", "gamma = 0.99: Discount", "Of RLlib")]
    assert places == sorted(places)
    assert "Must be a number in [0, 1]. May differ between environments." in " ".join(text.split())
    assert "minibatch_size" not in text and "_NotProvided" not in text


@pytest.mark.parametrize("make", [MultiEnvPPOConfig, MultiEnvIQLConfig])
def test_help_of_the_class_shows_defaults_and_every_setting_is_documented(make: type) -> None:
    text = pydoc.plain(pydoc.render_doc(make))
    assert "_NotProvided" not in text
    assert not [line for line in text.splitlines() if line.rstrip().endswith(("None:", "True:", "False:"))]


def test_signatures_have_the_defaults() -> None:
    parameters = inspect.signature(MultiEnvPPOConfig.training).parameters
    defaults = MultiEnvPPOConfig()
    assert list(parameters)[1] == "actor_lr" and "learner_class" in parameters
    for name in ("lambda_", "gamma", "adam_epsilon", "grad_clip", "precision"):
        assert parameters[name].default == getattr(defaults, name)
    assert inspect.signature(MultiEnvIQLConfig.training).parameters["adam_epsilon"].default == 1e-8
    assert "batch_mode" not in inspect.signature(MultiEnvPPOConfig.env_runners).parameters


def test_copies_dictionaries_and_pickles_are_equal(config: Config) -> None:
    config.training(gamma=0.5, env_loss_weights={"CartPole-v1": 2.0}).validate()
    restored = type(config).from_dict(config.to_dict())
    for other in (config.copy(), cloudpickle.loads(cloudpickle.dumps(config)), restored):
        other.validate()
        assert (other.gamma, other.env_loss_weights) == (0.5, {"CartPole-v1": 2.0})
        assert other.learning_rates() == config.learning_rates()
    assert type(config)().env_loss_weights == {}


class OwnConfig(MultiEnvPPOConfig):
    """A user's algorithm declares its settings the same way."""

    @settings
    def training(
        self,
        *,
        temperature: PerEnvironment[Positive] = 2.0,
        mode: Literal["a", "b", "c"] = "a",
        num_epochs: Count = 1,
        **rllib: Any,
    ) -> Self:
        """Set how to train.

        Args:
            temperature: Of the user's loss.
            mode: Of the user's loss.
        """
        return super().training(**rllib)


def test_a_users_own_settings_are_declared_in_one_place() -> None:
    config = OwnConfig().environment(envs=["CartPole-v1"]).training(temperature=1, lambda_=0.9)
    config.rl_module(algorithm_config_overrides_per_module={"CartPole-v1": {"temperature": 3.0}})
    config.validate()
    assert (config.temperature, config.lambda_, config.num_epochs, config.mode) == (1, 0.9, 1, "a")
    assert config.get_config_for_module("CartPole-v1").temperature == 3.0
    assert (
        OwnConfig.training.__doc__ is not None
        and "temperature = 2.0: Of the user's loss." in OwnConfig.training.__doc__
    )
    assert "num_epochs = 1: Passes over the data" in OwnConfig.training.__doc__
    with pytest.raises(ValueError, match="mode='d': must be one of 'a', 'b', 'c'"):
        config.training(mode="d")


class PlainConfig(OwnConfig):
    """A user's class between two that declare settings, written in RLlib's way."""

    seen: ClassVar[list[str]] = []

    def training(self, *, anneal: Any = NotProvided, **rllib: Any) -> Self:
        self.seen[:] = [*rllib]
        if anneal is not NotProvided:
            self.anneal = anneal
        return super().training(**rllib)


class LastConfig(PlainConfig):
    @settings
    def training(self, *, warmth: Positive = 3.0, mode: Literal["a", "z"] = "z", **rllib: Any) -> None:
        """Set how to train.

        Args:
            warmth: Of the loss.
        """
        self.seen.append("body")


def test_a_users_method_between_declarations_is_called() -> None:
    config = LastConfig().training(warmth=1.0, anneal=5, mode="z", temperature=4.0, gamma=0.5)
    assert (config.warmth, config.anneal, config.mode) == (1.0, 5, "z")
    assert (config.temperature, config.gamma) == (4.0, 0.5)
    assert sorted(config.seen[:-1]) == ["gamma", "mode", "temperature"] and config.seen[-1] == "body"
    assert "anneal" in inspect.signature(LastConfig.training).parameters
    for wrong in ({"mode": "b"}, {"temperature": -1}, {"warmth": 0}):
        with pytest.raises(ValueError, match="must be"):
            config.training(**wrong)
    with pytest.raises(TypeError, match=r"training\(aneal=...\).*'anneal'"):
        config.training(aneal=3)


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="AgnosticNetConfig"):
        MultiEnvPPOConfig().rl_module(model_config=MLPNetConfig)


def test_the_repr_is_what_differs_from_the_defaults() -> None:
    assert repr(MultiEnvPPOConfig()) == "MultiEnvPPOConfig()"
    config = MultiEnvPPOConfig().training(gamma=0.9).env_runners(num_env_runners=2).rl_module(model_config=None)
    assert repr(config) in (
        "MultiEnvPPOConfig(num_env_runners=2, gamma=0.9)",
        "MultiEnvPPOConfig(gamma=0.9, num_env_runners=2)",
    )


def test_settings_are_given_by_name() -> None:
    for call in (lambda c: c.training(0.3), lambda c: c.env_runners(3), lambda c: c.learners(2)):
        with pytest.raises(TypeError, match="takes its settings by name"):
            call(MultiEnvPPOConfig())
