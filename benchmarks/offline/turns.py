"""A race between programs that run in turn, each in its own process.

A competitor builds its trainer and calls :func:`serve`; the referee calls :meth:`Competitor.run`. Only the standard
library is needed, so that a competitor can live in another virtual environment.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence


def serve(step: Callable[[int], None], versions: dict[str, str]) -> None:
    """Make as many updates as each line of the standard input says, and answer with the seconds that they took.

    CPU seconds are of all threads of this process.
    """
    print(json.dumps({"ready": versions}), flush=True)
    for line in sys.stdin:
        cpu_start, start = time.process_time(), time.perf_counter()
        step(int(line))
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds}), flush=True)


class Competitor:
    """A process that makes updates when told to, and waits in between.

    Attributes:
        versions: Of its packages.
        cpu_seconds: Its CPU time for one update, on average, of every run so far.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.versions: dict[str, str] = self._answer("ready")["ready"]
        self.cpu_seconds: list[float] = []

    def run(self, updates: int) -> float:
        """Updates per second over ``updates`` of them."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{updates}\n")
        self._process.stdin.flush()
        answer = self._answer("seconds")
        self.cpu_seconds.append(answer["cpu_seconds"] / updates)
        return updates / answer["seconds"]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _answer(self, key: str) -> dict:
        assert self._process.stdout is not None
        for line in self._process.stdout:  # libraries may print between answers
            try:
                answer = json.loads(line)
            except ValueError:
                continue
            if isinstance(answer, dict) and key in answer:
                return answer
        raise RuntimeError(f"{self.name} ended with status {self._process.wait()}; run its command alone to see why")
