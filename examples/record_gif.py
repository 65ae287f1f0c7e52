"""A GIF of a trained agent in all environments of its training, side by side.

Run it with::

    python examples/record_gif.py results/quickstart docs/quickstart.gif [SECONDS]

The first argument is a checkpoint, the folder of a run, or ``quickstart``, the agent that comes with the package. All
panels run in real time. When an episode ends, the next one starts. Six seconds are a file of less than 1 MB.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from rllib_multienv import MultiEnvAgent
from rllib_multienv.envs.make import make_env

FRAMES_PER_SECOND, SIDE, LABEL = 15, 200, 18


def panels(agent: MultiEnvAgent, env_id: str, seconds: int) -> Iterator[Image.Image]:
    """Frames of one environment, each a square with the environment's name below it."""
    env = make_env(agent.env_specs[env_id], render_mode="rgb_array")
    steps_per_second = env.metadata["render_fps"]
    obs, _ = env.reset(seed=0)
    taken = 0
    for frame in range(seconds * FRAMES_PER_SECOND):
        while taken < frame * steps_per_second / FRAMES_PER_SECOND:
            obs, _, terminated, truncated, _ = env.step(agent.act(env_id, obs))
            if terminated or truncated:
                obs, _ = env.reset()
            taken += 1
        image = Image.fromarray(np.asarray(env.render()))
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        panel = Image.new("RGB", (SIDE, SIDE + LABEL), "white")
        panel.paste(image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE)))
        ImageDraw.Draw(panel).text((4, SIDE + 2), env_id, fill="black")
        yield panel
    env.close()


def main(checkpoint: str, out: str, seconds: str = "6") -> None:
    """Write the GIF."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws off screen, and without sound
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    agent = MultiEnvAgent.from_checkpoint(Path(checkpoint))
    frames = []
    for row in zip(*(panels(agent, env_id, int(seconds)) for env_id in agent.env_specs), strict=True):
        frame = Image.new("RGB", (SIDE * len(row), SIDE + LABEL))
        for place, panel in enumerate(row):
            frame.paste(panel, (place * SIDE, 0))
        frames.append(frame)
    # One palette without dithering: what stands still is the same in all frames and costs nothing.
    palette = frames[0].quantize(128)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    first.save(out, save_all=True, append_images=others, duration=round(1000 / FRAMES_PER_SECOND), loop=0)
    print(f"{out}: {Path(out).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
