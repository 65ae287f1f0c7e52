"""RLlib's callbacks fire for episodes that are cut from whole fragments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import pytest
from next_step import next_step_counters
from ray.rllib.callbacks.callbacks import RLlibCallback
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from tiny_runs import make_runner, running, tiny_config
from toy_envs import Counter

from rllib_multienv import EnvSpec, MultiEnvPPOConfig
from rllib_multienv.rollout import EpisodeView

COUNTER = EnvSpec("counter", make=Counter)
events: list[tuple[str, dict[str, Any]]] = []


class Recorder(RLlibCallback):
    def on_environment_created(self, **kwargs: Any) -> None:
        events.append(("environment_created", kwargs))

    def on_episode_created(self, **kwargs: Any) -> None:
        assert len(kwargs["episode"].get_observations()) == 0  # not begun yet
        kwargs["episode"].custom_data["created"] = True
        events.append(("created", kwargs))

    def on_episode_start(self, **kwargs: Any) -> None:
        episode = kwargs["episode"]
        events.append(("start", {**kwargs, "obs": episode.get_observations(0).copy()}))
        episode.custom_data["number"] = len(events)

    def on_episode_end(self, **kwargs: Any) -> None:
        events.append(("end", {**kwargs, "chunks": list(kwargs["prev_episode_chunks"])}))

    def on_sample_end(self, **kwargs: Any) -> None:
        events.append(("sample_end", kwargs))

    def on_train_result(self, **kwargs: Any) -> None:
        events.append(("train_result", kwargs))


@pytest.fixture(autouse=True)
def _no_events() -> Iterator[None]:
    events.clear()
    yield
    events.clear()


def config(*callbacks: Any, **functions: Any) -> MultiEnvPPOConfig:
    return (
        tiny_config([COUNTER, "CartPole-v1"], normalize_obs=False)
        .env_runners(rollout_fragment_length=7)
        .callbacks(*callbacks, **functions)
    )


def of(kind: str) -> list[dict[str, Any]]:
    return [arguments for name, arguments in events if name == kind]


def test_every_episode_is_created_started_and_ended_once() -> None:
    runner = make_runner(config(Recorder))
    chunks = [chunk for _ in range(4) for chunk in runner.sample()]
    begun = {c.id_ for c in chunks}
    ended = {c.id_ for c in chunks if c.is_done}
    assert [a["episode"].id_ for a in of("created")] == [a["episode"].id_ for a in of("start")]
    assert {a["episode"].id_ for a in of("start")} == begun
    assert len(of("start")) == len(begun)
    assert sorted(a["episode"].id_ for a in of("end")) == sorted(ended)
    # An episode's events come in their order.
    for name in begun:
        kinds = [kind for kind, a in events if "episode" in a and a["episode"].id_ == name]
        assert kinds == ["created", "start", "end"][: 3 if name in ended else 2]


def test_arguments() -> None:
    runner = make_runner(config(Recorder))
    runner.sample()
    for kind in ("created", "start", "end"):
        for arguments in of(kind):
            assert arguments["env_runner"] is runner
            assert arguments["metrics_logger"] is runner.metrics
            assert arguments["rl_module"] is runner.module
            env_id = arguments["episode"].module_id
            assert arguments["env"] is runner.environments[env_id].copies.env
            assert arguments["env_index"] in (0, 1)
    assert {a["episode"].module_id for a in of("start")} == {"counter", "CartPole-v1"}
    starts = [a["obs"].tolist() for a in of("start") if a["episode"].module_id == "counter"]
    assert all(step == 0 for _, step in starts)
    assert {episode for episode, _ in starts} == {0.0, 1.0}


def test_end_has_the_whole_episode_and_what_was_set_at_its_start() -> None:
    runner = make_runner(config(Recorder).env_runners(rollout_fragment_length=2))
    for _ in range(9):
        runner.sample()
    numbers = {a["episode"].id_: a["episode"].custom_data["number"] for a in of("start")}
    across = 0
    for arguments in of("end"):
        episode, chunks = arguments["episode"], arguments["chunks"]
        assert isinstance(episode, SingleAgentEpisode) and episode.is_done
        assert episode.custom_data["created"]
        for chunk in (*chunks, episode):
            assert chunk.custom_data["number"] == numbers[episode.id_]
        if episode.module_id == "counter":
            first = (*chunks, episode)[0].get_observations(0)
            number = int(first[0])
            rewards = [r for chunk in (*chunks, episode) for r in chunk.get_rewards().tolist()]
            assert len(rewards) == 3 + number % 4
            assert all(100 * number < r <= 100 * number + 8 for r in rewards)
        across += bool(chunks)
    assert across > 2


def test_metrics_and_custom_data_that_a_callback_logs(ray_cluster: None) -> None:
    def at_end(*, episode: Any, metrics_logger: Any, **kwargs: Any) -> None:
        metrics_logger.log_value(("last_reward", episode.module_id), float(episode.get_rewards(-1)), reduce="max")

    with running(config(on_episode_end=at_end)) as algo:
        result = algo.train()
        # Episode 0 of three steps: reward 3 + action; episode 1 of four: 104 + action.
        assert 104 <= result["env_runners"]["last_reward"]["counter"] <= 106


@pytest.mark.parametrize("backend", ["sync", "async", "NEXT_STEP"])
def test_episodes_have_the_infos_of_the_environment(backend: Any) -> None:
    spec = EnvSpec("counter", make=Counter, backend="sync" if backend == "NEXT_STEP" else backend)
    made = config(Recorder).environment(envs=[spec]).env_runners(rollout_fragment_length=5)
    runner = make_runner(made)
    if backend == "NEXT_STEP":
        runner.environments["counter"].copies = next_step_counters(2)
    for _ in range(4):
        for chunk in runner.sample():
            assert len(chunk.get_infos()) == len(chunk) + 1
            for t, info in enumerate(chunk.get_infos(), chunk.t_started):
                assert info.get("step" if t else "begun") == (t or chunk.get_observations(0)[0])
    assert {a["episode"].get_infos(0).get("step") for a in of("start")} == {None}
    runner.stop()


def test_infos_go_to_learners_only_where_a_connector_takes_episodes() -> None:
    plain = config(Recorder)
    assert make_runner(plain).sample_rollouts()["counter"].infos is None
    connected = plain.copy(copy_frozen=False).training(learner_connector=lambda *spaces: [])
    rollout = make_runner(connected).sample_rollouts()["counter"]
    (episode, *_) = EpisodeView({"counter": [rollout]}).episodes
    assert episode.get_infos() == [{"begun": 0}, {"step": 1}, {"step": 2}, {"step": 3}]


def test_sample_end_and_train_result(ray_cluster: None) -> None:
    with running(config(Recorder)) as algo:
        result = algo.train()
        (sample_end,) = of("sample_end")
        assert sample_end["env_runner"] is algo.env_runner
        assert sum(map(len, sample_end["samples"])) == 28
        (train_result,) = of("train_result")
        assert train_result["algorithm"] is algo
        assert train_result["result"]["env_runners"]["num_env_steps_sampled_lifetime"] == 28
        assert result["training_iteration"] == 1
        algo.train()
        assert (len(of("sample_end")), len(of("train_result"))) == (2, 2)


def test_environment_created_names_the_environment() -> None:
    made = config(Recorder)
    runner = make_runner(made)
    assert [a["env_context"]["env_id"] for a in of("environment_created")] == ["counter", "CartPole-v1"]
    for arguments in of("environment_created"):
        context = arguments["env_context"]
        assert context.worker_index == 0
        assert arguments["env"] is runner.environments[context["env_id"]].copies.env
        assert isinstance(arguments["env"], gym.vector.VectorEnv)
        assert arguments["env_runner"] is runner


def test_several_callbacks_all_fire() -> None:
    functions: list[str] = []
    made = config([Recorder, Recorder], on_episode_start=lambda *, episode, **kwargs: functions.append(episode.id_))
    make_runner(made).sample()
    assert len(of("start")) == 2 * len(functions) > 0


def test_callback_of_single_steps_is_refused() -> None:
    class Steps(RLlibCallback):
        def on_episode_step(self, **kwargs: Any) -> None:
            pass

    for made in (config(Steps), config(on_episode_step=lambda **kwargs: None)):
        with pytest.raises(ValueError, match=r"on_episode_step\(\) cannot be called.*on_episode_end\(\)"):
            made.validate()
