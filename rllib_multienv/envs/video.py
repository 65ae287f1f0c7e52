"""Videos of episodes: MP4 with moviepy (the extra ``video``), GIF with Pillow, which comes with Matplotlib."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rllib_multienv.envs.errors import MAX_EPISODE_STEPS
from rllib_multienv.envs.make import close_env

# A GIF compresses badly: these keep it below some megabytes.
_GIF_FRAMES, _GIF_WIDTH = 200, 320


def check_video(video_format: str) -> None:
    """Check that videos of a format can be written here.

    Raises:
        ValueError: There is no such format.
        ImportError: A package is missing.
    """
    if video_format not in ("mp4", "gif"):
        raise ValueError(f"video_format={video_format!r}: must be 'mp4' or 'gif'.")
    if video_format == "mp4" and importlib.util.find_spec("moviepy") is None:
        raise ImportError(
            "MP4 videos need the package moviepy: pip install 'rllib-multienv[video]'. GIFs work without it (--gif, "
            'video_format="gif").'
        )


def record_episode(
    env: gym.Env,
    act: Callable[[Any, Any, float], Any],
    path: Path,
    *,
    seed: int | None = None,
    max_steps: int = MAX_EPISODE_STEPS,
) -> Path:
    """Play one episode and write it as a video; closes the environment.

    Args:
        env: An environment with the render mode ``"rgb_array"``.
        act: From an observation, its info and the last reward (0 at first) to an action.
        path: The file, with the ending ``.mp4`` or ``.gif``; replaced if it exists.
        seed: Seed of the environment.
        max_steps: Record no longer than this.

    Returns:
        ``path``.
    """
    gif = path.suffix == ".gif"
    frames: list[np.ndarray] = []
    stride = 1
    try:
        obs, info = env.reset(seed=seed)
        reward = 0.0
        for step in range(max_steps + 1):
            if step % stride == 0:
                frames.append(np.asarray(env.render()))
            if gif and len(frames) > _GIF_FRAMES:
                frames, stride = frames[::2], stride * 2
            obs, taken, terminated, truncated, info = env.step(act(obs, info, reward))
            reward = float(taken)
            if terminated or truncated:
                break
        fps = float(env.metadata.get("render_fps") or 30)
    finally:
        close_env(path.stem, env)
    path.parent.mkdir(parents=True, exist_ok=True)
    (_write_gif if gif else _write_mp4)(frames, path, fps / stride)
    return path


def _write_mp4(frames: list[np.ndarray], path: Path, fps: float) -> None:
    from moviepy.video.io.ImageSequenceClip import ImageSequenceClip

    ImageSequenceClip(frames, fps=fps).write_videofile(str(path), logger=None)


def _write_gif(frames: list[np.ndarray], path: Path, fps: float) -> None:
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    width = min(_GIF_WIDTH, images[0].width)
    size = (width, round(images[0].height * width / images[0].width))
    small = (image.resize(size, Image.Resampling.BILINEAR) for image in images)
    # An octree is faster than Pillow's default, and its pictures compress better.
    first, *others = (image.quantize(method=Image.Quantize.FASTOCTREE) for image in small)
    first.save(path, save_all=True, append_images=others, duration=round(1000 / fps), loop=0)
