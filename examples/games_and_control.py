"""Trains one agent on a game for two, a cooperative task of several agents, and two control tasks.

Run it with (``mpe2`` is in the extra ``mpe``)::

    python examples/games_and_control.py [ITERATIONS]

It prints after each iteration the mean return in each environment, per agent where there are several. Connect four is
played against itself, so its mean return stays 0; the share of games that are won against a random player is printed at
the end. In the end the agent plays a game in PettingZoo's own loop. With 30 iterations (some seconds each on two CPU
cores) connect four is won in most games, and CartPole-v1 rises from about 20 to some hundred.
"""

import sys

from pettingzoo.classic import connect_four_v3

from rllib_multienv import EnvSpec, GeneratedNetConfig, MultiEnvAgent, MultiEnvPPOConfig

iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 30

config = (
    MultiEnvPPOConfig()
    .environment(
        envs=[
            EnvSpec("connect_four", make="pettingzoo.classic.connect_four_v3"),
            EnvSpec("spread", make="mpe2.simple_spread_v3", num_envs=4),
            "CartPole-v1",
            "HalfCheetah-v4",
        ]
    )
    .env_runners(num_env_runners=0, num_envs_per_env_runner=8, rollout_fragment_length=128)
    .rl_module(model_config=GeneratedNetConfig())
    .training(lr=1e-3, num_epochs=5, num_minibatches=4)
    .debugging(seed=0)
)
algo = config.build_algo()
for iteration in range(iterations):
    returns = algo.train()["env_runners"]["module_episode_return_mean"]
    print(iteration + 1, {env_id: round(float(value), 1) for env_id, value in returns.items()}, flush=True)
path = algo.save_to_path()
algo.stop()

agent = MultiEnvAgent.from_checkpoint(path)
games = agent.evaluate("connect_four", episodes=20, opponent="random", explore=True)
print(f"won against a random player: {sum(total > 0 for total, _ in games) / len(games):.0%}")

env = connect_four_v3.env()
env.reset(seed=0)
for _player in env.agent_iter():
    observation, reward, terminated, truncated, info = env.last()
    env.step(None if terminated or truncated else agent.act("connect_four", observation))
print("the last player's result:", reward)
