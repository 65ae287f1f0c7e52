"""Types and ranges of Tune's options; Tune itself finds out in the middle of a search, or never."""

from __future__ import annotations

from typing import Annotated, Literal, get_type_hints

from rllib_multienv.algorithms.settings import (
    Count,
    CountOrZero,
    Fraction,
    Kind,
    NonNegative,
    Positive,
    kind_of,
)

_Factor = Annotated[float, Kind("a number above 1", lambda x: kind_of(Positive).holds(x) and x > 1)]
_Half = Annotated[float, Kind("a number in [0, 0.5]", lambda x: kind_of(Fraction).holds(x) and x <= 0.5)]


class _Options:
    """By name: no two of Tune's classes mean different things by one name."""

    # TuneConfig and RunConfig
    metric: str | None
    mode: Literal["max", "min"] | None
    num_samples: Count | Literal[-1]
    max_concurrent_trials: CountOrZero | None
    time_budget_s: Positive | None
    reuse_actors: bool
    storage_path: str | None
    verbose: Literal[0, 1, 2, 3]
    # CheckpointConfig and FailureConfig
    num_to_keep: Count | None
    checkpoint_score_attribute: str | None
    checkpoint_score_order: Literal["max", "min"]
    checkpoint_frequency: CountOrZero
    checkpoint_at_end: bool | None
    max_failures: CountOrZero | Literal[-1]
    fail_fast: bool | Literal["raise"]
    # Schedulers
    time_attr: str
    max_t: Count
    grace_period: NonNegative
    reduction_factor: _Factor
    brackets: Count
    stop_last_trials: bool
    min_samples_required: Count
    min_time_slice: NonNegative
    hard_stop: bool
    perturbation_interval: Positive
    burn_in_period: NonNegative
    quantile_fraction: _Half
    resample_probability: Fraction
    log_config: bool
    require_attrs: bool
    synch: bool
    policy_file: str
    hyperparam_bounds: dict
    # Searchers
    points_to_evaluate: list | None
    max_concurrent: CountOrZero
    constant_grid_search: bool
    random_state: CountOrZero | None
    random_state_seed: CountOrZero | None
    seed: CountOrZero | None
    n_initial_points: Count
    random_search_steps: Count
    gamma: Fraction


OPTIONS = {name: kind_of(hint) for name, hint in get_type_hints(_Options, include_extras=True).items()}
