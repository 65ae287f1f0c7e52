"""A user's own connector pieces run before this package's, on batches keyed by environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from tiny_runs import learner_batch, make_runner, running, tiny_config
from toy_envs import Counter, Grid

from rllib_multienv import EnvSpec, MultiEnvPPOConfig
from rllib_multienv.connectors import NormalizeObservations

ENVS = (EnvSpec("counter", make=Counter), EnvSpec("grid", make=Grid))


def config(**pieces: Any) -> MultiEnvPPOConfig:
    return tiny_config(ENVS).env_runners(**pieces)


class Doubling(ConnectorV2):
    """Remembers copies of what it sees, and doubles the observations of `counter`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seen: list[dict[str, np.ndarray]] = []

    def __call__(self, *, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        self.seen.append({env_id: columns[Columns.OBS].copy() for env_id, columns in batch.items()})
        if "counter" in batch:
            batch["counter"][Columns.OBS] = 2 * batch["counter"][Columns.OBS]
        return batch


def test_env_to_module_piece_gets_raw_observations_first() -> None:
    piece = Doubling()
    runner = make_runner(config(env_to_module_connector=lambda env, spaces, device: piece))
    runner.sample()
    steps = [seen for seen in piece.seen if len(seen) == 2]
    assert len(steps) == 16  # one call per time step, for all environments
    assert steps[0]["counter"].tolist() == [[0, 0], [0, 0]]
    assert steps[1]["counter"].tolist() == [[0, 1], [0, 1]]
    assert steps[0]["grid"].tolist() == [-2, -2]  # not one-hot yet
    # What it made of them is what is counted and used.
    (normalize,) = runner._env_to_module[NormalizeObservations]
    raw = np.concatenate([seen["counter"] for seen in steps])
    np.testing.assert_allclose(normalize.normalizers["counter"].moments.total().mean, 2 * raw.mean(0), rtol=1e-12)


def test_env_to_module_piece_runs_on_final_observations_too() -> None:
    piece = Doubling()
    runner = make_runner(
        tiny_config(ENVS, normalize_obs=False).env_runners(env_to_module_connector=lambda env, spaces, device: piece)
    )
    for chunk in runner.sample():
        if chunk.module_id == "counter":
            steps = chunk.get_observations()[:, 1]
            assert steps.tolist() == [2 * t for t in range(chunk.t_started, chunk.t_started + len(steps))]


def test_users_piece_knows_the_spaces() -> None:
    found: dict[str, Any] = {}

    def make(env: Any, spaces: dict[str, Any], device: Any) -> ConnectorV2:
        found.update(spaces)
        return Doubling()

    make_runner(config(env_to_module_connector=make))
    for env_id, environment in (("counter", Counter()), ("grid", Grid())):
        assert found[env_id] == (environment.observation_space, environment.action_space)


class FirstAction(ConnectorV2):
    def __call__(self, *, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        for columns in batch.values():
            columns[Columns.ACTIONS] = columns[Columns.ACTION_DIST_INPUTS].argmin(-1)
        return batch


def test_module_to_env_piece_may_choose_the_actions() -> None:
    runner = make_runner(config(module_to_env_connector=lambda env, spaces: FirstAction()))
    for chunk in runner.sample():
        logits = chunk.get_extra_model_outputs(Columns.ACTION_DIST_INPUTS)
        assert chunk.get_actions().tolist() == logits.argmin(-1).tolist()
        logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        np.testing.assert_allclose(chunk.get_extra_model_outputs(Columns.ACTION_LOGP), logp.min(-1), rtol=1e-4)


class Iterating(ConnectorV2):
    def __call__(self, *, batch: dict[str, Any], episodes: Any, **kwargs: Any) -> dict[str, Any]:
        for _ in self.single_agent_episode_iterator(episodes):
            pass
        return batch


@pytest.mark.parametrize("place", ["env_to_module_connector", "module_to_env_connector"])
def test_iterating_over_episodes_says_what_to_do_instead(place: str) -> None:
    runner = make_runner(config(**{place: lambda *args, **kwargs: Iterating()}))
    with pytest.raises(RuntimeError, match=r"batch\[env_id\]\['obs'\]"):
        runner.sample()


class Wrong(ConnectorV2):
    """Calls a function on the batch."""

    def __init__(self, function: Callable[[dict[str, Any]], Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.function = function

    def __call__(self, *, batch: dict[str, Any], **kwargs: Any) -> Any:
        self.function(batch)
        return None if self.function is nothing else batch


def nothing(batch: dict[str, Any]) -> None:
    pass


def cut(batch: dict[str, Any]) -> None:
    batch["counter"]["obs"] = batch["counter"]["obs"][:, :1]


def fewer(batch: dict[str, Any]) -> None:
    batch["counter"]["obs"] = batch["counter"]["obs"][:1]


def without_grid(batch: dict[str, Any]) -> None:
    del batch["grid"]


def one_action(batch: dict[str, Any]) -> None:
    batch["counter"]["actions"] = torch.zeros(1, dtype=torch.int64)


def array_of_actions(batch: dict[str, Any]) -> None:
    batch["counter"]["actions"] = np.zeros(2, np.int64)


TO_MODULE, TO_ENV = "env_to_module_connector", "module_to_env_connector"


@pytest.mark.parametrize(
    ("place", "function", "problem"),
    [
        (TO_MODULE, nothing, "Connector Wrong returned NoneType: its __call__ must end with `return batch`"),
        (TO_ENV, nothing, "Connector Wrong returned NoneType: its __call__ must end with `return batch`"),
        (TO_MODULE, cut, r"Connector Wrong .*batch\['counter'\]\['obs'\] has shape \(2, 1\); it must be \(2, 2\)"),
        (TO_MODULE, fewer, r"batch\['counter'\]\['obs'\] has shape \(1, 2\); it must be \(2, 2\)"),
        (TO_MODULE, without_grid, r"batch\['grid'\]\['obs'\] is missing"),
        (TO_ENV, without_grid, r"batch\['grid'\]\['action_dist_inputs'\] is missing"),
        (TO_ENV, one_action, r"batch\['counter'\]\['actions'\] to a tensor \[1\]; it must be a tensor \[2\]"),
        (TO_ENV, array_of_actions, r"batch\['counter'\]\['actions'\] to ndarray; it must be a tensor \[2\]"),
    ],
)
def test_a_wrong_piece_is_named_and_not_the_environment(place: str, function: Any, problem: str) -> None:
    runner = make_runner(config(**{place: lambda *args, **kwargs: Wrong(function)}))
    with pytest.raises((TypeError, ValueError), match=problem):
        runner.sample()


def test_a_learner_piece_that_returns_nothing_is_named() -> None:
    made = tiny_config(ENVS).learners(learner_connector=lambda obs_space, action_space: Wrong(nothing))
    rollouts = make_runner(made).sample_rollouts()
    with pytest.raises(TypeError, match="Connector Wrong returned NoneType"):
        learner_batch(made, made.get_multi_rl_module_spec().build(), rollouts)


class Bonus(ConnectorV2):
    """Adds one to every reward of `counter`."""

    def __init__(self, seen: list[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seen = seen

    def __call__(self, *, batch: dict[str, Any], episodes: list[Any], **kwargs: Any) -> dict[str, Any]:
        assert batch == {}  # the first piece
        for episode in self.single_agent_episode_iterator(episodes):
            self.seen.append(episode.module_id)
            if episode.module_id == "counter":
                for t in range(len(episode)):
                    episode.set_rewards(new_data=episode.get_rewards(t) + 1.0, at_indices=t)
        return batch


def test_learner_piece_gets_the_episodes_first(ray_cluster: None) -> None:
    seen: list[str] = []
    made = tiny_config(
        ENVS,
        learner_connector=lambda obs_space, action_space: Bonus(seen),
        normalize_rewards=False,
        lambda_=1.0,
        gamma=1.0,
    )
    with running(made) as algo:
        result = algo.train()
        assert set(seen) == {"counter", "grid"}
        assert np.isfinite(result["learners"]["counter"]["policy_loss"])
    # The first episode of `counter` is terminated after three steps: the target of its last step is its reward.
    rollouts = make_runner(made).sample_rollouts()
    raw = rollouts["counter"].rewards[2, 0]
    batch = learner_batch(made, made.get_multi_rl_module_spec().build(), rollouts)
    assert float(batch["counter"]["value_targets"][2 * 2]) == pytest.approx(raw + 1.0, rel=1e-6)


class Total(ConnectorV2):
    """A stateful piece of a user: counts calls on all runners."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.base = self.calls = 0

    def __call__(self, *, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        if len(batch) == 2:
            self.calls += 1
        return batch

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {"base": self.base, "calls": self.calls}

    def set_state(self, state: dict[str, Any]) -> None:
        self.base, self.calls = state["base"], state["calls"]

    def merge_states(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        return {"base": self.base + sum(s["calls"] for s in states), "calls": 0}


def test_states_of_pieces_are_merged_each_by_its_own() -> None:
    """Whichever pieces before them have no state; on one machine here, as RLlib does over runners."""
    made = config(env_to_module_connector=lambda env, spaces, device: [Doubling(), Total()])
    local, first, second = (make_runner(made.copy()) for _ in range(3))
    for _ in range(3):
        states = []
        for runner in (first, second):
            runner.sample()
            states.append(runner.get_state(components="env_to_module_connector")["env_to_module_connector"])
        merged = local._env_to_module.merge_states(states)
        for runner in (local, first, second):
            runner.set_state({"env_to_module_connector": merged})
    assert merged["Total"] == {"base": 3 * 2 * 16, "calls": 0}
    assert merged["NormalizeObservations"]["counter"]["base"]["count"] == 3 * 2 * 32
    assert merged["RewardScale"]["grid"]["base"]["count"] == 3 * 2 * 32
    assert "Doubling" not in merged


def test_rllibs_default_pieces_are_refused() -> None:
    for name in ("env_to_module", "module_to_env", "learner"):
        made = config()
        setattr(made, f"add_default_connectors_to_{name}_pipeline", True)
        with pytest.raises(ValueError, match=f"add_default_connectors_to_{name}_pipeline"):
            made.validate()
