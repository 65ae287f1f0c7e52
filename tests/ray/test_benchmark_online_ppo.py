"""The benchmark of PPO runs, its competitors do equally much, and its plain loop is PPO."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from benchmark_runs import run_benchmark
from cli_helpers import ROOT
from rollouts import ends

sys.path.append(str(ROOT / "benchmarks" / "online"))
from competing import count_steps
from floor import Floor
from plain_loop import PlainPPO, advantages_of
from settings import GAMMA, LAMBDA, SETTINGS, SHORT, Setting

from rllib_multienv.connectors import generalized_advantages


def test_the_plain_loop_and_ours_do_the_same_number_of_steps(tmp_path: Path) -> None:
    output = tmp_path / "tables.md"
    arguments = ["--competitors", "rllib_multienv", "plain loop", "--output", output]
    run_benchmark("online_ppo", *arguments, cwd=tmp_path, timeout=300)
    text = output.read_text()
    rows = {
        name: [line.strip("| ").split("|") for line in text.splitlines() if line.startswith(f"| {name} ")]
        for name in ("rllib_multienv", "plain loop")
    }
    assert len(rows["rllib_multienv"]) == len(rows["plain loop"]) == len(SHORT)
    for ours, plain, setting in zip(*rows.values(), SHORT.values(), strict=True):
        for row in (ours, plain):
            median, spread = row[1].replace(",", "").replace(")", "").split("(")
            low, high = map(float, spread.split(" to "))
            assert 0 < low <= float(median) <= high
            assert int(row[2]) == setting.rows
            assert int(row[3]) == setting.epochs * setting.rows // setting.minibatch
        assert float(plain[4].split("(")[0]) > 0 and float(plain[5]) == 1.0
        assert float(plain[6].split("(")[0]) > 0


def test_without_its_interpreter_stable_baselines3_is_left_out(tmp_path: Path) -> None:
    arguments = ["--settings", "cartpole", "--competitors", "plain loop", "Stable-Baselines3"]
    printed = run_benchmark("online_ppo", *arguments, cwd=tmp_path)
    assert "Stable-Baselines3 is left out: give --sb3-python." in printed
    assert "| plain loop |" in printed and "| Stable-Baselines3 |" not in printed


@pytest.mark.parametrize("setting", SHORT.values(), ids=SHORT)
def test_the_floor_has_the_steps_of_the_plain_loop_and_no_network_in_them(setting: Setting) -> None:
    plain, floor = PlainPPO(setting), Floor(setting)
    taken = []
    for env in floor.envs.envs:
        env.step = lambda action, step=env.step: taken.append(action) or step(action)
    floor.envs.step = floor.actor.forward = None  # never called between environment steps
    floor._learn = lambda *data: PlainPPO._learn(plain, *data)
    assert count_steps(floor.iterate) == count_steps(plain.iterate)
    assert len(taken) == setting.rows


def test_the_plain_loop_has_our_advantages() -> None:
    rng = np.random.default_rng(0)
    length, copies = 6, 2
    rewards, values = rng.normal(size=(2, length, copies))
    last_values = rng.normal(size=copies)
    dones = np.zeros((length, copies))
    dones[2, 0] = dones[5, 1] = 1.0
    found = advantages_of(rewards, values, last_values, dones)
    expected = generalized_advantages(
        ends((length, copies), terminated=[(2, 0), (5, 1)]),
        rewards=rewards,
        values=values,
        final_values=np.array([0.0, *last_values]),
        gamma=GAMMA,
        lambda_=LAMBDA,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_plain_loop_bootstraps_from_a_time_limit() -> None:
    """Pendulum never terminates: at the 200th step of an episode, the value of its last observation counts."""
    setting = Setting(env="Pendulum-v1", copies=1, steps=200, minibatch=200, epochs=1, hidden=(8,))
    loop = PlainPPO(setting)
    for parameter in loop.critic.parameters():
        parameter.data.zero_()
    loop.critic[-1].bias.data.fill_(100.0)  # V = 100 everywhere
    *_, targets = loop._sample()
    assert len(loop.returns) == 1 and loop.running[0] == 0.0
    # The last step's target is its reward, of -17 at worst, and the discounted value of where the episode was cut.
    assert GAMMA * 100.0 - 17.0 < float(targets[-1]) <= GAMMA * 100.0


@pytest.mark.long
def test_the_plain_loop_learns() -> None:
    loop = PlainPPO(SETTINGS["cartpole"])
    for _ in range(40):
        loop.iterate()
    assert np.mean(loop.returns) > 100
