"""Meta-testing without Ray: returns by episode and task, beside the oracle and random actions."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toy_family import Guess
from untrained_agent import save_untrained

from rllib_multienv import EnvSpec, GeneratedNetConfig, MultiEnvAgent
from rllib_multienv.checkpoints import DESCRIPTION_FILE, read_checkpoint
from rllib_multienv.envs.copies import VectorStep
from rllib_multienv.envs.vector import EnvCopies
from rllib_multienv.evaluation.adaptation import measure_adaptation, plot_adaptation, write_adaptation
from rllib_multienv.inner_loop import InnerLoop

GUESS = EnvSpec("guess", make=Guess)


class Searching:
    """Tries one action after the other, one in each episode, until one is right."""

    def begin(self, num_tasks: int) -> None:
        self.guess = np.zeros(num_tasks, int)
        self.right = np.zeros(num_tasks, bool)

    def act(self, raw: np.ndarray) -> Any:
        return self.guess

    def observe(self, step: VectorStep) -> None:
        assert step.episode_ends is not None
        self.right |= step.rewards > 0
        self.guess = self.guess + (step.episode_ends & ~self.right)


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_each_episode_of_each_task_is_measured(backend: str) -> None:
    copies = EnvCopies(replace(GUESS, trial_episodes=4, backend=backend), 5, seed=0)
    try:
        result = measure_adaptation(copies, Searching(), split="test", episodes=4, seed=0)
    finally:
        copies.close()
    assert result.tasks.shape == (5, 1) and set(result.tasks[:, 0]) == {2, 3}
    for task, returns in zip(result.tasks[:, 0], result.returns, strict=True):
        assert returns.tolist() == [3.0 * (number >= task) for number in range(4)]
    assert result.oracle.tolist() == [3.0] * 5 and (result.random <= 3).all()
    assert [mean.value for mean in result.means] == result.returns.mean(0).tolist()
    assert result.means[2].low <= result.means[2].value <= result.means[2].high
    assert [mean.value for mean in result.by_step(2)] == [result.returns[:, :2].mean(), result.returns[:, 2:].mean()]


def test_where_no_best_return_is_known_the_scripted_policy_is_run() -> None:
    class Unsure(Guess):
        def oracle_return(self) -> float | None:
            return None

    copies = EnvCopies(EnvSpec("unsure", make=Unsure, trial_episodes=1), 3, seed=0)
    result = measure_adaptation(copies, Searching(), split="train", episodes=1, seed=0)
    copies.close()
    assert result.oracle.tolist() == [3.0] * 3


def test_an_agent_adapts_and_the_result_is_written_and_drawn(tmp_path: Path) -> None:
    agent = MultiEnvAgent.from_checkpoint(save_untrained(tmp_path / "agent", ["multienv/GridNavi-v0", "CartPole-v1"]))
    result = agent.adapt("multienv-GridNavi-v0", num_tasks=6, episodes=2)
    assert result.returns.shape == (6, 2) and result.total.value == pytest.approx(result.returns.sum(1).mean())
    again = agent.adapt("multienv-GridNavi-v0", num_tasks=6, episodes=2)
    np.testing.assert_array_equal(result.returns, again.returns)
    np.testing.assert_array_equal(result.random, again.random)
    file = io.StringIO()
    write_adaptation([result], file)
    lines = file.getvalue().splitlines()
    assert lines[0] == "env_id,split,task,episode_1,episode_2,oracle,random" and len(lines) == 7
    with Image.open(plot_adaptation([result], tmp_path / "figure.png")) as picture:
        assert picture.width > 100


def test_what_has_no_tasks_cannot_be_adapted_to(tmp_path: Path) -> None:
    agent = MultiEnvAgent.from_checkpoint(save_untrained(tmp_path / "agent", ["CartPole-v1"]))
    with pytest.raises(ValueError, match="'CartPole-v1' is no task family"):
        agent.adapt("CartPole-v1")
    with pytest.raises(ValueError, match="episodes=0: must be a whole number of at least 1"):
        agent.adapt("CartPole-v1", episodes=0)


def test_any_agent_adapts_by_steps_of_a_gradient_on_request_and_a_checkpoint_may_say_so(tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "agent", ["CartPole-v1"], GeneratedNetConfig(width=8))
    plain = MultiEnvAgent.from_checkpoint(path)
    options: dict[str, Any] = {"num_tasks": 2, "episodes": 4}
    inner_loop = InnerLoop(lr=0.5, episodes=2)
    asked = plain.adapt(GUESS, inner_loop=inner_loop, **options)
    saying = replace(plain.checkpoint, adapter={"type": "inner_loop", **asdict(inner_loop)})
    (tmp_path / "other").mkdir()
    saying.write(tmp_path / "other", training={})
    agent = MultiEnvAgent.from_checkpoint(tmp_path / "other")
    assert agent.checkpoint.adapter == saying.adapter
    np.testing.assert_array_equal(agent.adapt(GUESS, **options).returns, asked.returns)


@pytest.mark.parametrize(
    ("inner_loop", "message"),
    [
        ({"lrr": 1}, "unknown key 'lrr'. Did you mean 'lr'"),
        ({"lr": -1}, "lr=-1: must be a number above 0"),
        ({"episodes": 0}, "episodes=0: must be a whole number >= 1"),
        ({"method": "x"}, "method='x': must be in"),
        (3, "inner_loop=3: must be an InnerLoop, or a mapping"),
    ],
)
def test_wrong_steps_of_a_gradient_are_named(tmp_path: Path, inner_loop: Any, message: str) -> None:
    agent = MultiEnvAgent.from_checkpoint(save_untrained(tmp_path / "agent", ["CartPole-v1"]))
    with pytest.raises(ValueError, match=message):
        agent.adapt(GUESS, inner_loop=inner_loop)


def test_a_checkpoint_of_an_earlier_version_says_its_inner_loop(tmp_path: Path) -> None:
    path = save_untrained(tmp_path / "agent", ["CartPole-v1"])
    description = json.loads((path / DESCRIPTION_FILE).read_text())
    del description["adapter"]
    inner_loop = asdict(InnerLoop(lr=0.3, episodes=5))
    for earlier, adapter in ((None, {"type": "memory"}), (inner_loop, {"type": "inner_loop", **inner_loop})):
        (path / DESCRIPTION_FILE).write_text(json.dumps({**description, "inner_loop": earlier}))
        assert read_checkpoint(path, weights=False).adapter == adapter


def test_an_unknown_way_to_adapt_is_named(tmp_path: Path) -> None:
    agent = MultiEnvAgent.from_checkpoint(save_untrained(tmp_path / "agent", ["CartPole-v1"]))
    other = MultiEnvAgent(replace(agent.checkpoint, adapter={"type": "telepathy"}))
    with pytest.raises(ValueError, match="'telepathy'; this version knows 'memory', 'inner_loop'"):
        other.adapt(GUESS, num_tasks=1, episodes=1)
