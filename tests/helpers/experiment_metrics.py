"""Raw metrics of an experiment that never was: two variants and an ablation, three seeds, all kinds of phases.

Final returns are `FINAL[variant]` plus the seed, in environments where random actions get 0 and the best agent trained
alone gets 100, so that they are normalised scores at the same time. Curves rise to them in straight lines from 0.
"""

from __future__ import annotations

from dataclasses import replace

from rllib_multienv.evaluation.raw_metrics import (
    CurvePoint,
    EvaluationPoint,
    ExperimentInfo,
    GradientCosine,
    PhaseInfo,
    RandomScore,
    RawMetrics,
    RunRow,
    VariantInfo,
)

PRETRAIN_ENVS = ("CartPole-v1", "Pendulum-v1")
TRANSFER_ENVS = ("Acrobot-v1",)
SEEDS = (0, 1, 2)
STEPS = 1000
#: Mean over the seeds is one more.
FINAL = {
    ("pretrain", "s4"): {"CartPole-v1": 80.0, "Pendulum-v1": 40.0},
    ("pretrain", "mlp"): {"CartPole-v1": 60.0, "Pendulum-v1": 20.0},
    ("pretrain", "s4-bare"): {"CartPole-v1": 70.0, "Pendulum-v1": 35.0},
    ("transfer", "s4"): {"Acrobot-v1": 90.0},
    ("scratch", "s4"): {"Acrobot-v1": 50.0},
    ("transfer", "mlp"): {"Acrobot-v1": 30.0},
    ("scratch", "mlp"): {"Acrobot-v1": 50.0},
}
#: Return at the first step; curves rise from there in a straight line to the final return.
START = {("transfer", "s4"): 60.0}

INFO = ExperimentInfo(
    name="made-up",
    title="A made-up experiment",
    description="First paragraph.\n\nSecond <paragraph>.",
    phases=(
        PhaseInfo(name="single", kind="reference", envs=(*PRETRAIN_ENVS, *TRANSFER_ENVS), steps_per_environment=STEPS),
        PhaseInfo(name="pretrain", kind="pretrain", envs=PRETRAIN_ENVS, steps_per_environment=STEPS),
        PhaseInfo(
            name="transfer",
            kind="transfer",
            start_from="pretrain",
            envs=TRANSFER_ENVS,
            steps_per_environment=STEPS,
        ),
        PhaseInfo(name="scratch", kind="scratch", envs=TRANSFER_ENVS, steps_per_environment=STEPS),
    ),
    variants=(
        VariantInfo(name="s4", title="Agnostic S4"),
        VariantInfo(name="mlp", title="Padded MLP"),
        VariantInfo(name="s4-bare", title="S4 without Transformer", ablation_of="s4"),
        VariantInfo(name="alone", title="Trained alone"),
    ),
    seeds=SEEDS,
    versions={"ray": "2.60.0", "gymnasium": "1.2.2"},
    machine="two cores",
    command="multienv experiment made-up.yaml",
)


def made_up() -> RawMetrics:
    """The whole experiment."""
    runs, evaluations, curves, cosines = [], [], [], []
    for env_id in (*PRETRAIN_ENVS, *TRANSFER_ENVS):
        for seed in SEEDS:
            runs.append(_run("single", "alone", seed, 1, env_id))
            evaluations.append(_evaluation("single", "alone", seed, env_id, 99.0 + seed))
    for (phase, variant), finals in FINAL.items():
        for seed in SEEDS:
            runs.append(_run(phase, variant, seed, len(finals)))
            for env_id, final in finals.items():
                evaluations.append(_evaluation(phase, variant, seed, env_id, final + seed))
                start = START.get((phase, variant), 0.0)
                for tenth in range(11):
                    curves.append(
                        CurvePoint(
                            phase=phase,
                            variant=variant,
                            seed=seed,
                            env_id=env_id,
                            steps=STEPS * tenth // 10,
                            return_mean=start + (final + seed - start) * tenth / 10,
                        )
                    )
            if phase == "pretrain":
                for steps, cosine in ((500, -0.5), (1000, 0.1)):
                    cosines.append(
                        GradientCosine(
                            phase=phase,
                            variant=variant,
                            seed=seed,
                            steps=steps,
                            env_a="CartPole-v1",
                            env_b="Pendulum-v1",
                            cosine=cosine,
                        )
                    )
    return RawMetrics(
        experiment=INFO,
        runs=tuple(runs),
        evaluations=tuple(evaluations),
        curves=tuple(curves),
        random_scores=tuple(
            RandomScore(env_id=env_id, env_name=env_id, episodes=100, mean=0.0, std=1.0, versions="gymnasium 1.2.2")
            for env_id in (*PRETRAIN_ENVS, *TRANSFER_ENVS)
        ),
        gradient_cosines=tuple(cosines),
    )


def with_status(metrics: RawMetrics, status: str, *, phase: str, variant: str, seed: int) -> RawMetrics:
    """The same with another status of one run."""
    which = (phase, variant, seed)
    runs = [replace(r, status=status) if (r.phase, r.variant, r.seed) == which else r for r in metrics.runs]
    return replace(metrics, runs=tuple(runs))


def with_copies(metrics: RawMetrics, variant: str, *copies: str) -> RawMetrics:
    """The same with ablations of a variant that change nothing."""
    rows = {
        name: (*rows, *(replace(row, variant=copy) for copy in copies for row in rows if row.variant == variant))
        for name, rows in (("runs", metrics.runs), ("evaluations", metrics.evaluations), ("curves", metrics.curves))
    }
    variants = (*metrics.experiment.variants, *(VariantInfo(name=copy, ablation_of=variant) for copy in copies))
    return replace(metrics, experiment=replace(metrics.experiment, variants=variants), **rows)


def _run(phase: str, variant: str, seed: int, envs: int, env: str = "") -> RunRow:
    return RunRow(
        phase=phase,
        variant=variant,
        seed=seed,
        env=env,
        parameters=255600,
        env_steps=STEPS * envs,
        seconds=125.0,
        steps_per_second=8.0 * envs,
        status="done",
    )


def _evaluation(phase: str, variant: str, seed: int, env_id: str, mean: float) -> EvaluationPoint:
    return EvaluationPoint(
        phase=phase,
        variant=variant,
        seed=seed,
        env_id=env_id,
        episodes=20,
        mean=mean,
        std=2.0,
        min=mean - 5,
        max=mean + 5,
    )
