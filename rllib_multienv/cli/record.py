"""`multienv record`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from rllib_multienv.cli.terminal import make_console, number, user_errors

if TYPE_CHECKING:
    from rllib_multienv.offline.behaviours import Behaviour

_MINARI = "minari:"


def record(
    out: Annotated[str, typer.Argument(help="A .hdf5 file in D4RL's layout, or minari:NAME as in minari:cart/mix-v0.")],
    env: Annotated[str, typer.Option(metavar="ID", help="The environment.")],
    checkpoint: Annotated[
        Path | None, typer.Option("--from", metavar="CHECKPOINT", help="Let this agent act: a checkpoint or a run.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="Let a function act that takes a batch of observations."),
    ] = None,
    random_share: Annotated[
        float | None,
        typer.Option(help="Share of the steps that are all random, 0 to 1. Default: 0; 1 where nobody else acts."),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Environment steps in all.")] = 20_000,
    explore: Annotated[bool, typer.Option(help="Whether the agent draws its actions, or takes the mode.")] = True,
    noise: Annotated[
        float,
        typer.Option(
            help="Disturb the agent or function: the share of random actions (discrete), or the standard deviation "
            "of Gaussian noise in halves of the actions' range."
        ),
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the environments, the draws and the noise.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")] = False,
) -> None:
    """Record experience in an environment as a data set, from a trained agent, a function, or at random."""
    console = make_console()
    with user_errors():
        from rllib_multienv.offline.formats import d4rl, minari
        from rllib_multienv.offline.recording import record_steps
        from rllib_multienv.spec import resolve_env_specs

        name = out.removeprefix(_MINARI)
        writer: Any = minari if out.startswith(_MINARI) else d4rl
        writer.check_new(name, overwrite=overwrite)
        behaviours = _behaviours(checkpoint, policy, random_share, explore, noise)
        (spec,) = resolve_env_specs([env])
        with console.status(f"recording {steps:,} steps of {spec.id}"):
            raw = record_steps(spec, behaviours, num_steps=steps, seed=seed)
            writer.write(name, raw, spec, overwrite=overwrite)
        console.print(recording_table(raw.metadata["behaviours"], spec.id))
        console.print(Text(f"{len(raw):,} steps in {out}"), soft_wrap=True)


def recording_table(behaviours: str, env_id: str) -> Table:
    """Steps, whole episodes and their mean return, of each behaviour in a recording's metadata."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"Recorded in {env_id}", title_justify="left")
    table.add_column("behaviour", overflow="fold")
    for heading in ("steps", "whole episodes", "mean return"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in json.loads(behaviours):
        # A Text, since a name may have brackets, which would be markup.
        table.add_row(Text(row["name"]), f"{row['steps']:,}", str(row["episodes"]), number(row["mean_return"]))
    return table


def _behaviours(
    checkpoint: Path | None, policy: str | None, random_share: float | None, explore: bool, noise: float
) -> list[Behaviour]:
    """The behaviours that get a share of the steps.

    Raises:
        ValueError: The random share is not in [0, 1], nobody is named for the rest, or two are.
    """
    from rllib_multienv.checkpoints import find_checkpoint
    from rllib_multienv.offline.behaviours import RANDOM, Behaviour

    if checkpoint is not None and policy is not None:
        raise ValueError("--from and --policy are both given: only one of them can act beside the random share.")
    if random_share is not None and not 0 <= random_share <= 1:
        raise ValueError(f"--random-share {random_share}: must be from 0 to 1.")
    found: list[Behaviour] = []
    if checkpoint is None and policy is None:
        if random_share is not None and random_share < 1:
            raise ValueError(f"--random-share {random_share}: nobody acts in the other steps; use --from or --policy.")
        random_share = 1.0
    random_share = random_share or 0.0
    if random_share < 1:
        found.append(
            Behaviour(
                policy=policy,
                checkpoint=None if checkpoint is None else find_checkpoint(checkpoint),
                share=1 - random_share,
                noise=noise,
                explore=None if checkpoint is None else explore,
            )
        )
    if random_share > 0:
        found.append(Behaviour(policy=RANDOM, share=random_share))
    return found
