"""Environment steps per second of PPO, sampling and training: this package, a plain loop, Stable-Baselines3 and RLlib.

    python benchmarks/online_ppo.py [--sb3-python PATH] [--settings cartpole halfcheetah] [--threads 1 2]
        [--competitors ...] [--repeats 5] [--seconds 3] [--short] [--output FILE]

All have the same environment, stepped in the competitor's own process, the same MLP (separate for policy and value,
tanh, a learned log standard deviation), the same settings of PPO (benchmarks/online/settings.py) and the same number of
threads. An iteration samples copies x steps and learns them; what it does is counted and printed.

Each competitor is a process of its own that makes iterations when it is told to. All are built first; then every
repetition lets each fill a turn, one after the other, so that whatever else the machine does meets all of them alike.
Printed are medians and ranges over the repetitions; "ours is faster by" is the ratio within each repetition, of wall
time and of the competitors' CPU time, which leaves out what other programs took of the cores.
The row "floor" is no competitor: the environment's steps and the gradient steps of the plain loop, and nothing else.

Stable-Baselines3 is no dependency of this package: give the Python of an environment that has it
(benchmarks/online/sb3_ppo.py says how to make one), or it is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from publish import publish

sys.path.insert(0, str(Path(__file__).parent / "offline"))
sys.path.insert(0, str(Path(__file__).parent / "online"))
from settings import SETTINGS, SHORT, Setting
from timing import Spread, Timing, ratio, time_in_turn
from turns import Competitor

from rllib_multienv.experiments.invocation import describe_machine

HERE = Path(__file__).parent
OURS, PLAIN, SB3, RLLIB, FLOOR = "rllib_multienv", "plain loop", "Stable-Baselines3", "RLlib", "floor"
SCRIPTS = {OURS: "ours.py", PLAIN: "plain_loop.py", SB3: "sb3_ppo.py", RLLIB: "rllib_ppo.py", FLOOR: "floor.py"}
#: How many times as fast as each ours is to be.
GOALS = {PLAIN: 1.0, SB3: 1.5, RLLIB: 3.0}
#: What the competitors call themselves, not versions of libraries.
COUNTS = ("env_steps", "gradient_steps")


def race(setting: Setting, threads: int, pythons: dict[str, str], repeats: int, seconds: float) -> list[str]:
    """The lines of one table; competitors are the keys of ``pythons``, and their interpreters its values."""
    os.environ.update(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads))  # competitors inherit them
    competitors: dict[str, Competitor] = {}
    try:
        for name, python in pythons.items():
            script = str(HERE / "online" / SCRIPTS[name])
            competitors[name] = Competitor(name, [python, script, setting.to_json(), "--threads", str(threads)])
        counts = {name: [int(found.versions[key]) for key in COUNTS] for name, found in competitors.items()}
        turns = {name: lambda c=competitor: c.run(1) for name, competitor in competitors.items()}
        timings = {
            name: with_cpu_time(timing, competitors[name])
            for name, timing in time_in_turn(turns, repeats=repeats, min_seconds=seconds, pause=0.2).items()
        }
    finally:
        for competitor in competitors.values():
            competitor.close()
    versions = {
        library: version
        for competitor in competitors.values()
        for library, version in competitor.versions.items()
        if library not in COUNTS
    }
    lines = [
        f"{setting.in_words()}; {threads} {'thread' if threads == 1 else 'threads'}; "
        f"{', '.join(f'{library} {version}' for library, version in versions.items())}.",
        "",
        "| | env steps/s, median (range) | env steps of an iteration | gradient steps | ours is faster by | goal "
        "| by CPU time |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, timing in timings.items():
        env_steps, gradient_steps = counts[name]
        rate = Spread.of([env_steps / wall for wall in timing.seconds])
        rates = f"{rate.median:,.0f} ({rate.low:,.0f} to {rate.high:,.0f})"
        gain, goal, cpu_gain = "", "", ""
        if name != OURS and OURS in timings:
            per_step = env_steps / counts[OURS][0]
            gain, cpu_gain = (ratio(timing, timings[OURS], cpu=cpu).text(1 / per_step) for cpu in (False, True))
            goal = f"{GOALS[name]:g}" if name in GOALS else ""
        lines.append(f"| {name} | {rates} | {env_steps} | {gradient_steps} | {gain} | {goal} | {cpu_gain} |")
    return lines


def with_cpu_time(timing: Timing, competitor: Competitor) -> Timing:
    """The competitor's own CPU time in place of this process's."""
    return replace(timing, cpu_seconds=tuple(map(statistics.fmean, timing.by_repetition(competitor.cpu_seconds))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sb3-python", help="an interpreter that has Stable-Baselines3")
    parser.add_argument("--settings", nargs="+", choices=tuple(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="a table for each number")
    parser.add_argument("--competitors", nargs="+", choices=tuple(SCRIPTS), default=list(SCRIPTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn, about")
    parser.add_argument("--short", action="store_true", help="try the benchmark itself, with small iterations")
    parser.add_argument("--output", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    settings = SETTINGS
    if options.short:
        settings, options.threads, options.repeats, options.seconds = SHORT, [1], 2, 0.3
    pythons = {name: sys.executable for name in options.competitors}
    left_out = ""
    if SB3 in pythons:
        if options.sb3_python:
            pythons[SB3] = options.sb3_python
        else:
            del pythons[SB3]
            left_out = f"{SB3} is left out: give --sb3-python."
    start, load = time.perf_counter(), os.getloadavg()[0]
    tables = [
        "\n".join(race(settings[name], threads, pythons, options.repeats, options.seconds))
        for name in options.settings
        for threads in options.threads
    ]
    head = (
        f"{describe_machine()}; load before the start {load:.1f}; {options.repeats} turns of about {options.seconds:g} "
        f"s each; {time.perf_counter() - start:.0f} s in all."
    )
    text = "\n\n".join([head, *([left_out] if left_out else []), *tables])
    publish(text, options.output)


if __name__ == "__main__":
    main()
