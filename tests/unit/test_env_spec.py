"""EnvSpec: what a user may write for an environment, and what is refused."""

from __future__ import annotations

import json
import pickle
import threading
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from toy_envs import Counter, make_counter

from rllib_multienv.envs.make import make_env
from rllib_multienv.envs.probe import probe_spaces
from rllib_multienv.spec import EnvSpec, resolve_env_specs


def test_bare_id_is_also_what_is_made() -> None:
    assert EnvSpec("CartPole-v1").make == "CartPole-v1"


def test_gymnasium_id_that_cannot_be_a_key_gets_one() -> None:
    spec = EnvSpec("ALE/Pong-v5")
    assert (spec.id, spec.make) == ("ALE-Pong-v5", "ALE/Pong-v5")


@pytest.mark.parametrize("bad", ["", " ", "a/b", "a:b", "a*", "ends.", "ends ", "shared", "__all_modules__"])
def test_impossible_id_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="cannot be an environment's id"):
        EnvSpec(bad, make="CartPole-v1")


def test_impossible_id_offers_a_possible_one() -> None:
    with pytest.raises(ValueError, match="'my-env'"):
        EnvSpec("my/env", make="CartPole-v1")


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("num_envs", 0, ValueError),
        ("num_envs", 2.0, TypeError),
        ("num_envs", True, TypeError),
        ("max_episode_steps", -1, ValueError),
        ("backend", "asink", ValueError),
        ("tags", "hard", TypeError),
        ("kwargs", ["gravity"], TypeError),
        ("make", 3, TypeError),
    ],
)
def test_bad_field_names_environment_and_field(field: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"(?s)'pole'.*{field}"):
        EnvSpec("pole", **{"make": "CartPole-v1", field: value})  # type: ignore[arg-type]


def test_yaml_mapping_is_the_keyword_arguments() -> None:
    written = {
        "id": "fast",
        "make": "CartPole-v1",
        "num_envs": 16,
        "tags": ["easy"],
        "max_episode_steps": None,
    }
    assert EnvSpec.of(written) == EnvSpec("fast", make="CartPole-v1", num_envs=16, tags=("easy",))


def test_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown key 'num_env'.*'num_envs'"):
        EnvSpec.of({"id": "CartPole-v1", "num_env": 2})


def test_class_gives_its_name_to_the_environment() -> None:
    assert EnvSpec.of(Counter) == EnvSpec("Counter", make=Counter)


def test_lambda_needs_an_id() -> None:
    with pytest.raises(ValueError, match="no name"):
        EnvSpec.of(lambda: Counter())


def test_lambda_survives_pickling() -> None:
    spec = pickle.loads(pickle.dumps(EnvSpec("c", make=lambda: Counter(start=7), kwargs={"x": 1})))
    assert spec.make().episode == 6
    assert spec.kwargs == {"x": 1}


def test_specs_are_equal_hashable_and_survive_json() -> None:
    spec = EnvSpec("fast", make="CartPole-v1", kwargs={"sutton_barto_reward": True}, num_envs=4, tags=("a",))
    again = EnvSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert len({again, spec}) == 1


def test_arrays_paths_and_numpy_numbers_in_kwargs_survive_json() -> None:
    kwargs = {"goal": np.array([[1.5, np.inf]], np.float32), "files": {"map": Path("a/b")}, "scale": np.float64(2)}
    spec = EnvSpec("fast", make="toy_envs:Counter", kwargs=kwargs)
    again = EnvSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec == pickle.loads(pickle.dumps(spec))
    assert again.kwargs["goal"].dtype == np.float32
    assert again.kwargs["files"] == {"map": Path("a/b")}
    assert again != EnvSpec("fast", make="toy_envs:Counter", kwargs={**kwargs, "goal": np.array([[1.5, 2]])})


def test_kwargs_that_cannot_be_written_are_named() -> None:
    spec = EnvSpec("fast", make="toy_envs:Counter", kwargs={"options": [1, {"wheel": threading.Lock}]})
    with pytest.raises(ValueError, match=r"'fast': kwargs\['options'\]\[1\]\['wheel'\]=.*cannot be written down"):
        spec.to_dict()


def test_large_data_in_a_spec_is_a_warning() -> None:
    spec = EnvSpec("prices", make="toy_envs:Counter", kwargs={"prices": np.zeros(200_000)})
    with pytest.warns(UserWarning, match="'prices': make and kwargs take 2 MiB, which are sent to every worker"):
        pickle.dumps(spec)


def test_gymnasium_registrations_of_a_script_travel_with_the_spec() -> None:
    gym.register("Mine-v7", entry_point=lambda **kwargs: Counter(start=7), max_episode_steps=2)
    try:
        sent = [pickle.dumps(EnvSpec("mine", make=make)) for make in ("Mine-v7", "Mine")]
    finally:
        del gym.registry["Mine-v7"]
    for spec in sent:
        env = make_env(pickle.loads(spec))
        assert env.reset()[0].tolist() == [7, 0]
        assert env.spec is not None and env.spec.max_episode_steps == 2
        del gym.registry["Mine-v7"]


def test_importable_callable_is_written_by_name() -> None:
    written = EnvSpec("c", make=make_counter).to_dict()
    assert written == {"id": "c", "make": "toy_envs:make_counter"}
    assert isinstance(make_env(EnvSpec.from_dict(written)).unwrapped, Counter)


def test_lambda_cannot_be_written_down() -> None:
    with pytest.raises(ValueError, match="cannot be imported by name"):
        EnvSpec("c", make=lambda: Counter()).to_dict()


def test_every_way_of_naming_an_environment_resolves() -> None:
    specs = resolve_env_specs(
        [
            "CartPole-v1",
            EnvSpec("again", make="CartPole-v1"),
            {"id": "c", "make": "toy_envs:Counter"},
            Counter,
        ]
    )
    assert [spec.id for spec in specs] == ["CartPole-v1", "again", "c", "Counter"]


def test_single_environment_needs_no_list() -> None:
    assert [spec.id for spec in resolve_env_specs("CartPole-v1")] == ["CartPole-v1"]


def test_no_environment_is_an_error() -> None:
    with pytest.raises(ValueError, match="No environment"):
        resolve_env_specs([])


def test_duplicate_says_how_to_give_two_ids() -> None:
    with pytest.raises(ValueError, match=r'EnvSpec\("CartPole-v1-a", make="CartPole-v1"\)'):
        resolve_env_specs(["CartPole-v1", "CartPole-v1"])


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("Cartpole-v1", "'CartPole-v1'"),
        ("Acrobat-v1", "'Acrobot-v1'"),
        ("LunarLander-v2", "'LunarLander-v3'"),
    ],
)
def test_unknown_id_offers_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(ValueError, match=rf"{wrong}.*{right}"):
        resolve_env_specs([wrong])


def test_unknown_name_in_a_module_offers_the_nearest() -> None:
    with pytest.raises(ValueError, match="'Counter'"):
        resolve_env_specs(["toy_envs:Conter"])


def test_unknown_module_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        resolve_env_specs(["no_such_package:Env"])


def test_gymnasiums_module_and_id_spelling_is_understood() -> None:
    spec = EnvSpec("pole", make="gymnasium.envs.classic_control:CartPole-v1")
    assert make_env(spec).spec.id == "CartPole-v1"  # type: ignore[union-attr]


def test_kwargs_and_step_limit_reach_the_environment() -> None:
    env = make_env(EnvSpec("p", make="Pendulum-v1", kwargs={"g": 1.5}, max_episode_steps=3))
    assert env.unwrapped.g == 1.5  # type: ignore[attr-defined]
    env.reset(seed=0)
    assert [env.step(env.action_space.sample())[3] for _ in range(3)] == [False, False, True]


def test_step_limit_holds_for_callables() -> None:
    env = make_env(EnvSpec("c", make=Counter, max_episode_steps=2))
    env.reset()
    assert [env.step(0)[3] for _ in range(2)] == [False, True]


def test_standard_wrappers_stand_where_gymnasium_puts_them() -> None:
    env = make_env(EnvSpec("CartPole-v1"))
    assert isinstance(env, gym.wrappers.TimeLimit)
    assert isinstance(env.env, gym.wrappers.OrderEnforcing)
    assert env.env.env is env.unwrapped


def test_rendering_is_passed_on_or_refused() -> None:
    assert make_env(EnvSpec("c", make=Counter), render_mode="rgb_array").render_mode == "rgb_array"
    with pytest.raises(Exception, match="cannot render"):
        make_env(EnvSpec("c", make=make_counter), render_mode="rgb_array")


def test_seeded_environments_are_alike() -> None:
    first, second = (make_env(EnvSpec("CartPole-v1"), seed=5) for _ in range(2))
    assert (first.reset()[0] == second.reset()[0]).all()


def test_probed_sizes() -> None:
    spaces = probe_spaces(EnvSpec("HalfCheetah-v4"))
    assert (spaces.obs_size, spaces.action_size, spaces.discrete) == (17, 6, False)
