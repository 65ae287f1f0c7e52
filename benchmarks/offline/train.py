"""MultiEnvIQL on data sets in D4RL's layout, evaluated on the environments that the files name.

    python benchmarks/offline/train.py hopper.hdf5 --network mlp --updates 50000 --output hopper_mlp.json
    python benchmarks/offline/train.py hopper.hdf5 walker2d.hdf5 halfcheetah.hdf5 --d-model 32 --updates 50000

Environments of gymnasium-robotics (Adroit, mazes) need the extra [robotics].

With one file the network may be a plain MLP of 256, 256, as in d3rlpy_iql.py; with several it is the agnostic or the
generated one, whose standard deviations depend on the environment only, unless --state-dependent-std is given. The
means of the policy are squashed by tanh, as in d3rlpy. The other settings are the defaults, which are those of IQL's
paper.

Scores are normalised by the reference scores in the files. After every tenth of the updates (or as --evaluations says)
there is an evaluation and, with --checkpoint, a checkpoint; the same command resumes from it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from environments import spec_of

from rllib_multienv import AgnosticNetConfig, GeneratedNetConfig, MLPNetConfig, MultiEnvIQLConfig

#: Results of a run; evaluations follow some of them.
ITERATIONS = 100


def configure(options: argparse.Namespace) -> MultiEnvIQLConfig:
    datasets = {file.stem.removesuffix("-regen"): file for file in options.files}
    network: Any = AgnosticNetConfig(
        d_model=options.d_model,
        num_transformer_layers=options.transformer_layers,
        squash_mean=True,
        state_dependent_std=options.state_dependent_std,
        output_init=options.output_init,
    )
    if options.network == "generated":
        network = GeneratedNetConfig(
            width=options.d_model, squash_mean=True, state_dependent_std=options.state_dependent_std
        )
    if options.network == "mlp":
        network = MLPNetConfig(hidden=(256, 256), activation="relu", squash_mean=True)
    live = [] if options.no_evaluation else [spec_of(name, file, 10) for name, file in datasets.items()]
    config = (
        MultiEnvIQLConfig()
        .environment(envs=live)
        .offline_data(datasets={name: str(file) for name, file in datasets.items()})
        .rl_module(model_config=network)
        .training(
            num_steps_per_iteration=options.updates // ITERATIONS,
            batch_size=options.batch_size,
            lr=options.lr,
            beta=options.beta,
            tau=options.tau,
        )
        .learners(num_learners=options.learners)
        .debugging(seed=options.seed)
    )
    if options.cosine:
        config.training(actor_lr_cosine_steps=options.updates)
    if options.decay_values:
        falling = [[0, options.lr], [options.updates, 0.0]]
        config.training(value_lr=falling, critic_lr=falling)
    if live:
        config.evaluation(evaluation_interval=ITERATIONS // options.evaluations, evaluation_duration=options.episodes)
    overrides = {name: {"reward_normalization": kind} for name, kind in options.rewards}
    config.rl_module(algorithm_config_overrides_per_module=overrides)
    return config


def name_and_value(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=KIND")
    return name, value


def begin_report(options: argparse.Namespace, network: dict[str, Any]) -> dict[str, Any]:
    """What the run is, and room for what it finds."""
    settings = ("updates", "seed", "batch_size", "lr", "cosine", "decay_values", "beta", "tau", "learners")
    return {
        "files": [file.name for file in options.files],
        "network": network,
        **{name: getattr(options, name) for name in settings},
        "curve": [],
    }


def point_of(result: dict[str, Any]) -> dict[str, Any]:
    """Scores, losses and explained variances of a result with an evaluation."""
    evaluation = result.get("evaluation", {}).get("env_runners", {})
    return {
        "updates": int(result["num_steps_lifetime"]),
        "returns": {k: float(v) for k, v in evaluation.get("module_episode_return_mean", {}).items()},
        "scores": {k: float(v) for k, v in evaluation.get("normalized_score", {}).items()},
        "score_average": float(evaluation.get("normalized_score_average", float("nan"))),
        "learners": {
            name: {key: float(value) for key, value in values.items() if key.endswith(("_loss", "_explained_var"))}
            for name, values in result["learners"].items()
            if "qf_loss" in values
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--network", choices=("mlp", "agnostic", "generated"), default="agnostic")
    parser.add_argument("--d-model", type=int, default=32, help="width, of the generated network too")
    parser.add_argument("--transformer-layers", type=int, default=1, help="of the agnostic network")
    parser.add_argument("--state-dependent-std", action="store_true", help="of the agnostic network")
    parser.add_argument(
        "--output-init", choices=("default", "orthogonal"), default="default", help="of the agnostic network's decoders"
    )
    parser.add_argument("--updates", type=int, default=50_000)
    parser.add_argument("--batch-size", type=int, default=256, help="of each data set")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--beta", type=float, default=3.0, help="0 is behaviour cloning")
    parser.add_argument("--tau", type=float, default=0.005, help="how fast the target networks follow")
    parser.add_argument("--cosine", action="store_true", help="let the policy's learning rate fall to zero")
    parser.add_argument("--decay-values", action="store_true", help="let the learning rates of V and Q fall to zero")
    parser.add_argument("--learners", type=int, default=0)
    parser.add_argument("--threads", type=int, help="threads of the learner, where it is in this process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--no-evaluation", action="store_true")
    parser.add_argument("--evaluations", type=int, default=10, help="how many, evenly over the updates")
    parser.add_argument(
        "--rewards",
        type=name_and_value,
        nargs="*",
        default=[],
        metavar="NAME=KIND",
        help="reward_normalization of a data set",
    )
    parser.add_argument("--checkpoint", type=Path, help="a folder to save to, and to resume from")
    parser.add_argument("--output", type=Path, help="also write the report to this file")
    options = parser.parse_args()
    algorithm = configure(options).build_algo()
    report = begin_report(options, algorithm.config.network_config.to_dict())
    if options.checkpoint and options.checkpoint.exists():
        algorithm.restore_from_path(options.checkpoint)
        if options.output and options.output.exists():
            report["curve"] = json.loads(options.output.read_text())["curve"]
    if options.threads:
        torch.set_num_threads(options.threads)
    updates, seconds = 0, 0.0
    while algorithm.iteration < ITERATIONS:
        result = algorithm.train()
        updates += options.updates // ITERATIONS
        seconds += result["timers"]["learner_update_timer"]
        if algorithm.iteration % (ITERATIONS // options.evaluations):
            continue
        report["updates_per_second"] = updates / seconds
        report["curve"].append(point_of(result))
        print(json.dumps(report["curve"][-1]), flush=True)
        if options.checkpoint:
            algorithm.save_to_path(options.checkpoint)
        if options.output:
            options.output.write_text(json.dumps(report, indent=1))
    algorithm.stop()


if __name__ == "__main__":
    main()
