"""A classifier that may wait for what an image search finds, at a price, beside one that cannot see the search.

Run it with::

    python examples/image_search.py [ITERATIONS] [SEED]

`DigitQuestion` shows a handwritten digit through noise, `DigitSearch` the image most like it and its digit, if it is
told to search. After 60 iterations, in a minute, the classifier that sees the search is right in 89% of the test images
and waits in half of them, mostly where the other one, which has 70%, is wrong. The digits are scikit-learn's:
``pip install 'rllib-multienv[datasets]'``.
"""

from __future__ import annotations

import sys
import tempfile

import gymnasium as gym
import numpy as np

from rllib_multienv import EnvSpec, MultiEnvAgent, MultiEnvPPOConfig, SpecificNetConfig, WorldSpec

QUESTION, SEARCH = (EnvSpec(name, make=f"multienv/Digit{name.title()}-v0") for name in ("question", "search"))


def trained(*, world_attention: bool, iterations: int, seed: int) -> MultiEnvAgent:
    """The agent after so many iterations of 512 questions."""
    config = (
        MultiEnvPPOConfig()
        .environment(worlds={"quiz": WorldSpec([QUESTION, SEARCH], share_task=True, credit="joint")})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=512, rollout_fragment_length=2)
        .rl_module(model_config=SpecificNetConfig(width=64, world_attention=world_attention))
        .training(lr=2e-3, num_epochs=4, num_minibatches=4, gamma=1.0, entropy_coeff=0.1)
        .training(normalize_obs=False, normalize_rewards=False)
        .debugging(seed=seed)
    )
    algo = config.build_algo()
    try:
        for _ in range(iterations):
            algo.train()
        with tempfile.TemporaryDirectory() as folder:
            return MultiEnvAgent.from_checkpoint(algo.save_to_path(folder))
    finally:
        algo.stop()


def play(agent: MultiEnvAgent, rounds: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """All test images so many times: whether each was named right, and whether the agent waited, bool [N] each."""
    envs = {spec.id: gym.make_vec(str(spec.make), 597 * rounds, split="test") for spec in (QUESTION, SEARCH)}
    tasks = np.tile(np.arange(597.0), rounds)[:, None]  # [N, 1]
    obs = {}
    for env_id, env in envs.items():
        env.unwrapped.set_tasks(tasks)
        obs[env_id], _ = env.reset(seed=0)
    rewards = []
    for _ in range(2):
        steps = {env_id: envs[env_id].step(actions) for env_id, actions in agent.act_world(obs).items()}
        obs = {env_id: step[0] for env_id, step in steps.items()}
        rewards.append(steps["question"][1])
    return np.max(rewards, axis=0) == 1, rewards[0] < 0


if __name__ == "__main__":
    iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    right, searched = play(trained(world_attention=True, iterations=iterations, seed=seed))
    alone, _ = play(trained(world_attention=False, iterations=iterations, seed=seed))
    print(f"right: {right.mean():.3f} with the search, {alone.mean():.3f} without")
    print(f"searched: {searched.mean():.3f}")
    for said, chosen in (("searched", searched), ("not", ~searched)):
        wrong = 1 - alone[chosen].mean() if chosen.any() else float("nan")
        print(f"the classifier alone is wrong in {wrong:.3f} of the images that were {said}")
