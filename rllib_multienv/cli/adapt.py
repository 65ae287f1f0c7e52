"""`multienv adapt`."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from rllib_multienv.cli.terminal import Best, Checkpoint, make_console, make_table, number, shown, user_errors

if TYPE_CHECKING:
    from rllib_multienv.evaluation.adaptation import AdaptationResult


def adapt(
    checkpoint: Checkpoint,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID[=MAKE]",
            help="A task family, also a new one; MAKE is a Gymnasium id or module:function. Repeatable. "
            "Default: those of the training.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Tasks to adapt to, such as test or train.")] = "test",
    tasks: Annotated[int, typer.Option(min=1, help="Number of tasks.")] = 40,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes in each task.")] = 4,
    explore: Annotated[bool, typer.Option("--explore", help="Draw actions instead of taking the likeliest.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of tasks and environments.")] = 0,
    best: Best = False,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Also write the return of each task; - prints.", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the returns by episode.", show_default=False)
    ] = None,
) -> None:
    """Let a trained agent adapt to tasks that it was not trained on, and print the return of each episode."""
    with user_errors():
        from rllib_multienv import MultiEnvAgent
        from rllib_multienv.checkpoints import BY_MEMORY, find_checkpoint
        from rllib_multienv.cli.evaluate import opened_file
        from rllib_multienv.evaluation.adaptation import plot_adaptation, write_adaptation

        agent = MultiEnvAgent.from_checkpoint(find_checkpoint(checkpoint, best=best))
        pairs = [one.partition("=") for one in env or agent.families]
        if not pairs:
            raise ValueError(
                f"{shown(checkpoint)}: the agent was trained on no task family. Name one: --env multienv/GridNavi-v0."
            )
        console = make_console(sys.stderr if csv_file == Path("-") else None)
        if agent.network.memory is None and agent.checkpoint.adapter == BY_MEMORY:
            console.print("This agent has no memory and takes no steps of a gradient: it acts alike in all episodes.")
        results = []
        with console.status("adapting") as status:
            for env_id, equals, make in pairs:
                status.update(f"adapting to {env_id}")
                known = agent.add_env({"id": env_id, "make": make} if equals else env_id)
                results.append(
                    agent.adapt(known, split=split, num_tasks=tasks, episodes=episodes, explore=explore, seed=seed)
                )
        console.print(adaptation_table(results))
        if csv_file is not None:
            with opened_file(csv_file) as file:
                write_adaptation(results, file)
        if plot is not None:
            console.print(Text(f"figure in {shown(plot_adaptation(results, plot).resolve())}"), soft_wrap=True)


def adaptation_table(results: Sequence[AdaptationResult]) -> Table:
    """Mean return of each episode with its 95% interval, and of all episodes; of the oracle and of random actions."""
    title = f"Adaptation: return per episode, {len(results[0].tasks)} {results[0].split} tasks"
    table = make_table("environment", "episode", "mean", "95% interval", "oracle", "random", title=title)
    for result in results:
        count = result.returns.shape[1]
        rows = [*((str(k), mean, 1) for k, mean in enumerate(result.means, 1)), ("all", result.total, count)]
        for episode, mean, times in rows:
            known = (float(values.mean()) * times for values in (result.oracle, result.random))
            interval = f"{number(mean.low)} to {number(mean.high)}" if math.isfinite(mean.low) else "-"
            ends = (number(value if math.isfinite(value) else None) for value in known)
            table.add_row(result.env_id if episode == "1" else "", episode, number(mean.value), interval, *ends)
    return table
