"""`multienv record`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from rllib_multienv.cli.terminal import make_console, number, user_errors

if TYPE_CHECKING:
    from rllib_multienv.offline import RawDataset
    from rllib_multienv.offline.behaviours import Behaviour
    from rllib_multienv.space_spec import SpaceSpec
    from rllib_multienv.spec import EnvSpec

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
        _check_out(out, overwrite)
        share = _random_share(random_share, checkpoint, policy)
        from rllib_multienv.envs.make import probe_spaces
        from rllib_multienv.offline.recording import record_steps
        from rllib_multienv.spec import resolve_env_specs

        (spec,) = resolve_env_specs([env])
        spaces = probe_spaces(spec)
        behaviours = _behaviours(spec, spaces, checkpoint, policy, share, explore, noise)
        with console.status(f"recording {steps:,} steps of {spec.id}"):
            raw = record_steps(spec, behaviours, num_steps=steps, seed=seed)
            _write(out, raw, spaces, spec, overwrite)
        console.print(recording_table(json.loads(raw.metadata["behaviours"]), spec.id))
        console.print(Text(f"{len(raw):,} steps in {out}"), soft_wrap=True)


def recording_table(played: Sequence[Mapping[str, Any]], env_id: str) -> Table:
    """Steps, whole episodes and their mean return, of each behaviour."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"Recorded in {env_id}", title_justify="left")
    table.add_column("behaviour", overflow="fold")
    for heading in ("steps", "whole episodes", "mean return"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in played:
        # A Text, since a name may have brackets, which would be markup.
        table.add_row(Text(row["name"]), f"{row['steps']:,}", str(row["episodes"]), number(row["mean_return"]))
    return table


def _check_out(out: str, overwrite: bool) -> None:
    """Raise unless a data set can be written there."""
    if out.startswith(_MINARI):
        from rllib_multienv.offline.write_minari import check_new_dataset

        check_new_dataset(out.removeprefix(_MINARI), overwrite=overwrite)
    else:
        from rllib_multienv.offline.write_d4rl import check_new_file

        check_new_file(Path(out), overwrite=overwrite)


def _random_share(given: float | None, checkpoint: Path | None, policy: str | None) -> float:
    """The share of random actions.

    Raises:
        ValueError: It is not in [0, 1], or nobody is named for the rest; or two are.
    """
    if checkpoint is not None and policy is not None:
        raise ValueError("--from and --policy are both given: one of them acts, beside the random share.")
    if given is not None and not 0 <= given <= 1:
        raise ValueError(f"--random-share {given}: must be from 0 to 1.")
    if checkpoint is not None or policy is not None:
        return given or 0.0
    if given is not None and given < 1:
        raise ValueError(f"--random-share {given}: nobody is named for the other steps; use --from or --policy.")
    return 1.0


def _behaviours(
    env: EnvSpec,
    spaces: SpaceSpec,
    checkpoint: Path | None,
    policy: str | None,
    random_share: float,
    explore: bool,
    noise: float,
) -> list[Behaviour]:
    """Who acts; those without a share are checked and left out."""
    from rllib_multienv.agent import MultiEnvAgent
    from rllib_multienv.checkpoints import find_checkpoint
    from rllib_multienv.offline.behaviours import agent_behaviour, policy_behaviour, random_behaviour

    share = 1.0 - random_share
    found: list[Behaviour] = []
    if checkpoint is not None:
        agent = MultiEnvAgent.from_checkpoint(find_checkpoint(checkpoint))
        name = str(checkpoint)
        if share > 0:
            found.append(agent_behaviour(agent, env, spaces, name=name, share=share, explore=explore, noise=noise))
    elif policy is not None and share > 0:
        found.append(policy_behaviour(policy, spaces, share=share, noise=noise))
    if random_share > 0:
        found.append(random_behaviour(spaces, share=random_share))
    return found


def _write(out: str, raw: RawDataset, spaces: SpaceSpec, env: EnvSpec, overwrite: bool) -> None:
    if out.startswith(_MINARI):
        from rllib_multienv.offline.write_minari import write_minari

        write_minari(out.removeprefix(_MINARI), raw, spaces, env, overwrite=overwrite)
    else:
        from rllib_multienv.offline.write_d4rl import write_d4rl

        write_d4rl(out, raw, overwrite=overwrite)
