"""`multienv envs`."""

from __future__ import annotations

import fnmatch
from typing import Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from rllib_multienv.cli.display import make_console
from rllib_multienv.cli.errors import print_error, user_errors


def envs(
    pattern: Annotated[
        str,
        typer.Argument(help="Only those with this in their name; * and ? stand for any text and any letter."),
    ] = "",
    all_versions: Annotated[bool, typer.Option("--all", help="Also the older versions.")] = False,
) -> None:
    """List the environments that can be trained on here, with their sizes."""
    console = make_console()
    with user_errors():
        from rllib_multienv.envs.catalogue import list_trainable, nearest_env_ids

        with console.status("looking"):
            everything = list_trainable(all_versions=all_versions)
        found = [env for env in everything if matches(env.id, pattern)]
        if not found:
            near = [env_id for env_id in nearest_env_ids(pattern) if any(env.id == env_id for env in everything)]
            print_error(f"no environment matches {pattern!r}" + (f"; near it: {', '.join(near)}" if near else ""))
            raise typer.Exit(1)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("environment", no_wrap=True)
        for heading in ("observations", "actions", "time limit"):
            table.add_column(heading, justify="right", no_wrap=True)
        for env in found:
            actions = f"{env.action_size} {'discrete' if env.discrete else 'continuous'}"
            table.add_row(env.id, str(env.obs_size), actions, str(env.max_episode_steps or "none"))
        console.print(table)
        console.print(Text(f"{len(found)} environments"))


def matches(env_id: str, pattern: str) -> bool:
    """Whether an id has `pattern` in it, letter case aside."""
    return fnmatch.fnmatch(env_id.lower(), f"*{pattern.lower()}*")
