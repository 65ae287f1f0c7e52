"""The commands of `multienv`. They import what they need when they run, so that ``--help`` is quick."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from rllib_multienv import __version__
from rllib_multienv.cli import adapt, experiment, plot, record, report
from rllib_multienv.cli.terminal import Best, Checkpoint, make_console, make_table, print_error, shown, user_errors

app = typer.Typer(
    name="multienv",
    help="Train one reinforcement-learning agent on many unlike environments.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_FILE_HELP = "The configuration: a file, or the name of one that comes with the package, such as quickstart."
File = Annotated[Path | None, typer.Argument(metavar="[FILE.yaml|NAME]", help=_FILE_HELP, show_default=False)]
Seed = Annotated[int | None, typer.Option(help="Random seed; replaces the file's.", show_default=False)]
Results = Annotated[Path, typer.Option(help="Folder in which the run gets its own folder.")]
Name = Annotated[str | None, typer.Option(help="Name of that folder; default: the file's name.", show_default=False)]
StopSteps = Annotated[
    int | None, typer.Option(help="Stop after this many environment (offline: optimiser) steps.", show_default=False)
]
StopTime = Annotated[float | None, typer.Option(help="Stop after this many seconds of training.", show_default=False)]
EnvRunners = Annotated[
    int | None,
    typer.Option(help="Processes that step the environments; 0: the algorithm's own process.", show_default=False),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any value of the file, as in training.gamma=0.9; repeatable."),
]
Episodes = Annotated[
    int, typer.Option(min=0, help="Episodes per environment in the final evaluation; 0 leaves it out.")
]


@app.command()
def train(
    file: File = None,
    seed: Seed = None,
    results: Results = Path("results"),
    name: Name = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Resume the run in this folder.", show_default=False)
    ] = None,
    stop_steps: StopSteps = None,
    stop_time: StopTime = None,
    env_runners: EnvRunners = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the files of offline data sets (d4rl:NAME).", show_default=False),
    ] = None,
    settings: Settings = None,
    wandb: Annotated[
        str | None, typer.Option(metavar="PROJECT", help="Log to this project of Weights & Biases.", show_default=False)
    ] = None,
    episodes: Episodes = 20,
) -> None:
    """Train one agent on the environments of a file.

    Ctrl-C saves a checkpoint and ends; --resume DIR continues from there.
    """
    with user_errors():
        from rllib_multienv.cli.training import find_config, resumed, run_training, with_options
        from rllib_multienv.config_files import load_config_file
        from rllib_multienv.runs.folder import RunFolder

        if (file is None) == (resume is None):
            raise ValueError(
                "give a FILE.yaml to train (or a name such as quickstart), or --resume DIR to resume an earlier run"
            )
        if resume is not None:
            if any(option is not None for option in (seed, name, env_runners, data_dir, wandb)) or settings:
                raise ValueError("a run is resumed as it was; only --stop-steps and --stop-time can be changed")
            folder = RunFolder.existing(resume)
            earlier = resumed(folder, stop_steps=stop_steps, stop_time=stop_time, episodes=episodes)
            run_training(earlier.file, resume=earlier, episodes=episodes)
            return
        assert file is not None
        config = with_options(
            load_config_file(find_config(file)),
            seed=seed,
            name=name,
            stop_steps=stop_steps,
            stop_time=stop_time,
            env_runners=env_runners,
            data_dir=data_dir,
            settings=settings,
            wandb=wandb,
        )
        run_training(config, results=results, episodes=episodes)


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="Where to write it.")] = Path("multienv.yaml"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a commented configuration file to start from."""
    with user_errors():
        from rllib_multienv.cli.training import SHIPPED

        if file.exists() and not overwrite:
            raise FileExistsError(f"{file} exists; --overwrite replaces it")
        text = (SHIPPED / "template.yaml").read_text(encoding="utf-8")
        file.write_text(text.replace("tune_configs/template.yaml", str(file)), encoding="utf-8")
        typer.echo(f"wrote {file}; train it with: multienv train {file}")


@app.command()
def evaluate(
    checkpoint: Checkpoint,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID[=MAKE]",
            help="An environment, also a new one; MAKE is a Gymnasium id or module:function. Repeatable. "
            "Default: those of the training.",
        ),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes per environment.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the environments.")] = 0,
    best: Best = False,
    random: Annotated[bool, typer.Option("--random", help="Also measure random actions.")] = False,
    video: Annotated[
        bool, typer.Option("--video", help="Record one episode each as MP4 (needs the extra 'video').")
    ] = False,
    gif: Annotated[bool, typer.Option("--gif", help="Record one episode each as GIF.")] = False,
    video_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Videos' folder; default: beside the checkpoint or here.", show_default=False),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write JSON; - prints it.", show_default=False)
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Also write CSV; - prints it.", show_default=False)
    ] = None,
) -> None:
    """Run episodes with a trained agent, without exploration, and print their returns."""
    with user_errors():
        from rllib_multienv.checkpoints import find_checkpoint
        from rllib_multienv.cli.evaluate import evaluate_checkpoint, evaluation_table, write_rows

        if video and gif:
            raise ValueError("--video and --gif are both given: choose one")
        folder = find_checkpoint(checkpoint, best=best)
        beside = folder.parent if checkpoint.exists() else Path()  # not into the package's folder
        videos = (video_dir or beside / f"{folder.name}-videos") if video or gif or video_dir else None
        console = make_console(sys.stderr if Path("-") in (json_file, csv_file) else None)
        with console.status("loading the agent") as status:
            rows = evaluate_checkpoint(
                folder,
                envs=env or (),
                episodes=episodes,
                seed=seed,
                video_dir=videos,
                video_format="gif" if gif else "mp4",
                random=random,
                on_env=lambda env_id: status.update(f"evaluating {env_id}"),
            )
        console.print(evaluation_table(rows))
        write_rows(rows, json_file=json_file, csv_file=csv_file)
        if videos is not None:
            console.print(Text(f"videos in {shown(videos)}"), soft_wrap=True)


@app.command()
def transfer(
    checkpoint: Checkpoint,
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml|NAME", help="The configuration, with other environments.")],
    freeze: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help="Part of the network that is not trained, as in encoder; repeatable."),
    ] = None,
    reset: Annotated[
        list[str] | None,
        typer.Option(metavar="PART", help="Part of the network that starts fresh, as in decoders; repeatable."),
    ] = None,
    shrink: Annotated[
        float | None,
        typer.Option(help="Share of the trained weights, the rest is fresh: shrink and perturb.", show_default=False),
    ] = None,
    seed: Seed = None,
    results: Results = Path("results"),
    name: Name = None,
    stop_steps: StopSteps = None,
    stop_time: StopTime = None,
    env_runners: EnvRunners = None,
    settings: Settings = None,
    episodes: Episodes = 20,
) -> None:
    """Train on the environments of a file, starting with the network of a trained agent.

    A file without rl_module takes the checkpoint's network.
    """
    with user_errors():
        from rllib_multienv.checkpoints import find_checkpoint, read_checkpoint
        from rllib_multienv.cli.training import find_config, run_training, with_options
        from rllib_multienv.config_files import load_config_file

        chosen = load_config_file(find_config(file))
        start = dict(chosen.methods.get("initialize_from", {}))
        start |= {"path": str(find_checkpoint(checkpoint).resolve())}
        given = {"freeze": freeze, "reset": reset, "shrink": shrink}
        start |= {key: value for key, value in given.items() if value}
        chosen = chosen.override("initialize_from", start)
        if "rl_module" not in chosen.methods:
            network = read_checkpoint(str(start["path"]), weights=False).network
            chosen = chosen.override("rl_module.model_config", network.to_dict())
        config = with_options(
            chosen,
            seed=seed,
            name=name,
            stop_steps=stop_steps,
            stop_time=stop_time,
            env_runners=env_runners,
            settings=settings,
        )
        run_training(config, results=results, episodes=episodes)


app.command("adapt")(adapt.adapt)
app.command("experiment")(experiment.experiment)
app.command("record")(record.record)
app.command("report")(report.report)
app.command("plot")(plot.plot)


@app.command()
def envs(
    pattern: Annotated[
        str,
        typer.Argument(help="Only names that contain this; * stands for any text and ? for any letter."),
    ] = "",
    all_versions: Annotated[bool, typer.Option("--all", help="Also the older versions.")] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(help="Only environments and data sets with such a tag, as domain:image; may be repeated."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Only those without such a tag, as test:true; may be repeated.")
    ] = None,
) -> None:
    """List the environments that can be trained on, with their sizes or the extra that they need."""
    console = make_console()
    with user_errors():
        if include or exclude:
            from rllib_multienv.experience.registry import registered_envs

            specs = registered_envs(include or (), exclude or ())
            width = max(len(spec.id) for spec in specs)
            for spec in specs:
                console.print(Text(f"{spec.id:<{width}}  {' '.join(spec.tags)}"), soft_wrap=True)
            console.print(Text(f"{len(specs)} environment{'' if len(specs) == 1 else 's'}"))
            return
        from rllib_multienv.envs.catalogue import list_trainable, nearest_env_ids
        from rllib_multienv.gym_ids import FAMILIES

        with console.status("looking"):
            found = list_trainable(pattern, all_versions=all_versions)
        if not found:
            near = nearest_env_ids(pattern)
            print_error(f"no environment matches {pattern!r}" + (f"; near it: {', '.join(near)}" if near else ""))
            raise typer.Exit(1)
        table = make_table("environment", "observations", "actions", "time limit")
        for env in found:
            if env.needs is not None:
                table.add_row(env.id, "", f"needs {env.needs}", "")
                continue
            table.add_row(env.id, env.observations, env.actions, str(env.max_episode_steps or "none"))
        console.print(table)
        console.print(Text(f"{len(found)} environment{'' if len(found) == 1 else 's'}"))
        if not pattern:
            families = Table(box=box.SIMPLE_HEAD, pad_edge=False)
            for heading in ("more environments", "needs", "in a file"):
                families.add_column(heading)
            for family in FAMILIES:
                needs = "installed" if family.installed else f"the extra '{family.extra}'"
                families.add_row(f"{family.package} ({len(family.ids)})", needs, family.example)
            families.add_row(
                "pettingzoo, mpe2 (several agents)",
                "some the extras 'classic', 'butterfly', 'mpe'",
                "{id: ttt, make: pettingzoo.classic.tictactoe_v3}",
            )
            families.add_row("envpool (faster copies)", "the extra 'envpool'", "{id: CartPole-v1, backend: envpool}")
            console.print(families)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"multienv {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Train one reinforcement-learning agent on many unlike environments."""
    # As with `python -m`: environments in the user's folder can be named as "module:Environment", also by the
    # processes that Ray starts.
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
