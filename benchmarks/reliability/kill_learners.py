"""SIGKILL to a learner in the middle of an update, in a Tune run that restarts from its last checkpoint.

    python benchmarks/reliability/kill_learners.py [--kills 5]

Two learner processes, a checkpoint after every iteration, `FailureConfig(max_failures=-1)`. Prints a
Markdown table with a line for each kill, and at the end whether the stop criterion was reached with every counted step
trained. Takes about two minutes: Tune restarts the whole trial after each kill.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time

from harness import Row, Watch, add_up, print_table, ray_processes, shortened, small_config, start_ray, title_of, totals
from ray import tune

STOP = 40_000  # env steps


def kill_in_update(learner: int) -> None:
    """Wait until this learner (the first or second that was started) is in an update, and kill it."""
    process = ray_processes()["learner"][learner]
    while ".update" not in title_of(process):
        time.sleep(0.002)
    process.kill()


def kill_and_watch(kills: int, watch: Watch, rows: list[Row]) -> None:
    """Kill learners in turn, each time after the second iteration since the trial's last start."""
    since = 0.0
    for kill in range(kills):
        iteration = watch.wait_for_result(since, iterations=2)["training_iteration"]
        kill_in_update(kill % 2)
        since, moment = time.monotonic(), watch.seconds
        result = watch.wait_for_result(since)
        resumed_at = result["training_iteration"] - result["iterations_since_restore"]
        counters = totals(result)
        rows.append(
            Row(
                number=kill + 1,
                moment=f"in the update after iteration {iteration}, {moment:.0f} s into the run",
                log=shortened(watch.last_error()),
                seconds=watch.reported_at - since,
                outcome=f"continued from iteration {resumed_at}; {add_up(counters)}",
                **counters,
            )
        )
    watch.done = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    kills = parser.parse_args().kills
    start_ray(3)
    watch, rows = Watch(), []
    killer = threading.Thread(target=kill_and_watch, args=(kills, watch, rows), daemon=True)

    def stop(trial_id: str, result: dict) -> bool:
        return result["num_env_steps_sampled_lifetime"] >= STOP and watch.done

    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            "MultiEnvPPO",
            param_space=small_config().learners(num_learners=2),
            run_config=tune.RunConfig(
                storage_path=folder,
                stop=stop,
                callbacks=[watch],
                failure_config=tune.FailureConfig(max_failures=-1),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, num_to_keep=2),
                verbose=0,
            ),
        )
        killer.start()
        (result,) = tuner.fit()
    print_table(rows)
    counters = totals(result.metrics)
    print(f"\nStop criterion of {STOP} env steps reached: {counters}, {add_up(counters)}.")


if __name__ == "__main__":
    main()
