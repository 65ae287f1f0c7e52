"""Which backend "auto" stands for, and that EnvPool's dynamics are those of Gymnasium where it does."""

from __future__ import annotations

import numpy as np
import pytest

from rllib_multienv.envs import envpool_backend
from rllib_multienv.envs.make import make_env
from rllib_multienv.envs.vector import EnvCopies, resolve_backend
from rllib_multienv.gym_ids import envpool_is_installed
from rllib_multienv.spec import EnvSpec


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1", "InvertedPendulum-v4", "Reacher-v4", "Ant-v4"])
def test_auto_is_sync_unless_envpool_is_known_to_be_the_same(env_id: str) -> None:
    assert resolve_backend(EnvSpec(env_id)) == "sync"


def test_auto_is_envpool_only_where_it_pays_and_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # how Ray tells an actor of its CPUs
    assert resolve_backend(EnvSpec("HalfCheetah-v4")) == "sync"
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    expected = "envpool" if envpool_is_installed() else "sync"
    assert resolve_backend(EnvSpec("HalfCheetah-v4")) == expected
    assert resolve_backend(EnvSpec("HalfCheetah-v4", kwargs={"ctrl_cost_weight": 0.0})) == "sync"


def test_asked_for_is_what_is_used() -> None:
    assert resolve_backend(EnvSpec("HalfCheetah-v4", backend="sync")) == "sync"


@pytest.mark.parametrize("env_id", sorted(envpool_backend.VERIFIED))
def test_envpool_has_gymnasiums_dynamics(env_id: str) -> None:
    pytest.importorskip("envpool")
    ours = make_env(EnvSpec(env_id), seed=0)
    model = ours.unwrapped.model  # type: ignore[attr-defined]
    for seed in range(3):
        theirs = EnvCopies(EnvSpec(env_id, backend="envpool"), 1, seed=seed)
        spaces = theirs.space_spec
        assert spaces.observation_space == ours.observation_space
        assert spaces.action_space == ours.action_space
        obs = theirs.reset()[0]
        # The observation is the state without the position along the track, which nothing depends on.
        ours.reset()
        hidden = model.nq + model.nv - len(obs)
        state = np.concatenate([np.zeros(hidden), obs])
        ours.unwrapped.set_state(state[: model.nq], state[model.nq :])  # type: ignore[attr-defined]
        rng = np.random.default_rng(seed)
        for _ in range(30):
            action = spaces.action_to_env(rng.uniform(-1, 1, (1, spaces.action_size)))
            step = theirs.step(action)
            expected, reward, terminated, _, _ = ours.step(action[0])
            np.testing.assert_allclose(step.obs[0], expected, rtol=1e-6, atol=1e-6)
            assert step.rewards[0] == pytest.approx(reward, rel=1e-5, abs=1e-6)
            assert step.terminated[0] == terminated
            if terminated:
                break
        theirs.close()
