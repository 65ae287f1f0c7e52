"""From the folders of an experiment's runs to its raw metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from rllib_multienv.agent import MultiEnvAgent
from rllib_multienv.checkpoints import AgentCheckpoint, find_checkpoint, installed_versions, read_checkpoint
from rllib_multienv.evaluation.progress import learning_curves
from rllib_multienv.evaluation.random_scores import random_score
from rllib_multienv.evaluation.raw_metrics import RawMetrics, write_raw_metrics
from rllib_multienv.evaluation.report import METRICS_FOLDER
from rllib_multienv.experiments.file import load_experiment_file
from rllib_multienv.experiments.invocation import EXPERIMENT_FILE, read_invocation
from rllib_multienv.experiments.plan import Run, State, plan
from rllib_multienv.metrics import GRADIENT_COSINE, ONLINE
from rllib_multienv.spec import EnvSpec, resolve_env_specs

MAX_CURVE_POINTS = 50  # kept of each learning curve, so that raw metrics stay small enough to be shared

Rows = Sequence[Mapping[str, float]]


def collect(folder: Path, *, random_episodes: int = 100) -> Path:
    """Reads what the runs of an experiment have left so far, and writes it as raw metrics.

    Args:
        folder: The experiment's folder, with ``experiment.yaml`` and ``runs/``. That of the raw metrics is returned.
        random_episodes: Episodes with random actions in each environment.

    Raises:
        FileNotFoundError: The folder has no ``experiment.yaml``.
    """
    if not (folder / EXPERIMENT_FILE).is_file():
        raise FileNotFoundError(f"{folder} is not the folder of an experiment: it has no {EXPERIMENT_FILE}")
    invocation = read_invocation(folder)
    experiment = load_experiment_file(folder / EXPERIMENT_FILE, default_name=invocation.get("name"))
    runs = [run for run in plan(experiment, folder) if run.beside(".yaml").is_file()]
    agents = [_agent(run) for run in runs]
    # Phases and variants that have not run here may have run elsewhere: the info has them all.
    info = replace(
        experiment.info,
        seeds=tuple(dict.fromkeys(run.seed for run in runs)),
        versions=next((dict(agent.versions) for agent in agents if agent is not None), installed_versions()),
        machine=invocation.get("machine", ""),
        command=invocation.get("command", ""),
    )
    tables: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("runs", "evaluations", "zero_shot", "curves", "adaptation", "gradient_cosines")
    }
    specs: dict[str, EnvSpec] = {}
    for run, agent in zip(runs, agents, strict=True):
        rows = run.rows()
        key = {"phase": run.phase.name, "variant": run.variant.name, "seed": run.seed}
        tables["runs"].append({**key, "env": run.env_id, **_run(run, agent, rows)})
        for table, found in (
            ("evaluations", _evaluation(run.folder.evaluation)),
            ("zero_shot", _evaluation(run.beside(".start.csv"))),
            ("curves", _curves(rows)),
            ("adaptation", _adaptation(run)),
        ):
            tables[table] += [{**key, **row} for row in found]
        tables["gradient_cosines"] += [{**key, **row} for row in _cosines(rows)]
        for spec in resolve_env_specs(run.file.tree["environment"]["envs"]):
            specs.setdefault(spec.id, spec)
    scores = [asdict(random_score(spec, episodes=random_episodes)) for spec in specs.values()]
    return write_raw_metrics(RawMetrics(experiment=info, random_scores=scores, **tables), folder / METRICS_FOLDER)


def _agent(run: Run) -> AgentCheckpoint | None:
    """The description of the newest checkpoint, if there is one."""
    try:
        return read_checkpoint(find_checkpoint(run.folder.path), weights=False)
    except (OSError, ValueError):
        return None


def _run(run: Run, agent: AgentCheckpoint | None, rows: Rows) -> dict[str, Any]:
    last = rows[-1] if rows else {}
    steps, seconds = last.get(ONLINE.total), last.get("time_total_s")
    network = None if agent is None else agent.network.build(agent.space_specs)
    return {
        "parameters": None if network is None else sum(parameter.numel() for parameter in network.parameters()),
        "env_steps": steps,
        "seconds": seconds,
        "steps_per_second": steps / seconds if steps and seconds else None,
        "status": {State.DONE: "done", State.FAILED: "failed"}.get(run.state, "unfinished"),
    }


def _evaluation(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    frame = pd.read_csv(file)
    return frame[["env_id", "episodes", "mean", "std", "min", "max"]].to_dict("records")


def _adaptation(run: Run) -> list[dict[str, Any]]:
    """Measured once for each run that is done, and kept beside its folder."""
    if run.adaptation is None or run.state is not State.DONE:
        return []
    file = run.beside(".adaptation.csv")
    if not file.is_file():
        agent = MultiEnvAgent.from_checkpoint(run.folder.path)
        results = [agent.adapt(env_id, seed=run.seed, **run.adaptation) for env_id in agent.families]
        rows = [
            {
                "env_id": result.env_id, "episode": episode, "tasks": len(result.tasks), "mean": mean.value,
                "low": mean.low, "high": mean.high, "oracle": result.oracle.mean(), "random": result.random.mean(),
            }
            for result in results for episode, mean in enumerate(result.means, 1)
        ]  # fmt: skip
        pd.DataFrame(rows).to_csv(file, index=False)
    return pd.read_csv(file).to_dict("records")


def _curves(rows: Rows) -> Iterator[dict[str, Any]]:
    for curve in learning_curves(rows):
        points = dict(zip(map(int, curve.steps), curve.mean, strict=True))
        steps = list(points)
        stride = -(-len(steps) // MAX_CURVE_POINTS) or 1
        for step in steps[::-1][::stride]:  # from the end, so that the last point is kept
            yield {"env_id": curve.env_id, "steps": step, "return_mean": points[step]}


def _cosines(rows: Rows) -> Iterator[dict[str, Any]]:
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        for key, value in row.items():
            parts = key.split("/")
            if len(parts) == 4 and parts[0] == "learners" and parts[2] == GRADIENT_COSINE:
                found.setdefault((parts[1], parts[3]), []).append(value)
    for (env_a, env_b), values in found.items():
        cosines = np.array(values)
        yield {
            "env_a": env_a, "env_b": env_b, "mean": cosines.mean(), "negative": (cosines < 0).mean(),
            "measurements": len(cosines),
        }  # fmt: skip
