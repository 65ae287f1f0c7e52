"""What needs neither Ray nor PyTorch starts at once, and Tune knows the algorithms all the same."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from cli_helpers import command, environment

import rllib_multienv

HEAVY = ("ray", "torch", "numpy", "gymnasium", "matplotlib", "pandas")


def cpu_seconds(arguments: list[str], **variables: str) -> tuple[float, str]:
    """CPU time of a program, and what it has printed."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    done = subprocess.run(arguments, env={**environment(), **variables}, capture_output=True, text=True, check=True)
    return used() - before, done.stdout


def python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("train", "--help")])
def test_help_and_version_take_less_than_half_a_second(arguments: tuple[str, ...]) -> None:
    seconds, printed = cpu_seconds(command(*arguments))
    assert seconds < 0.5
    assert "multienv" in printed


def test_completion_takes_less_than_half_a_second() -> None:
    variables = {"_MULTIENV_COMPLETE": "complete_bash", "COMP_WORDS": "multienv tr", "COMP_CWORD": "1"}
    seconds, printed = cpu_seconds(command(), **variables)
    assert seconds < 0.5
    assert {"train", "transfer"} <= {*printed.split()}


def test_the_version_is_the_packages() -> None:
    assert cpu_seconds(command("--version"))[1] == f"multienv {rllib_multienv.__version__}\n"


def test_no_heavy_package_is_imported_before_a_command_runs() -> None:
    code = "import sys, rllib_multienv.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert not {*HEAVY} & {*loaded.stdout.split()}


@pytest.mark.parametrize("first", ["rllib_multienv", "ray.tune"])
def test_tune_knows_the_algorithms_whichever_is_imported_first(first: str) -> None:
    python(
        f"import sys, {first}, rllib_multienv, ray.tune\n"
        "assert 'rllib_multienv.algorithms' not in sys.modules\n"
        "from ray.tune.registry import get_trainable_cls\n"
        "assert get_trainable_cls('MultiEnvPPO') is rllib_multienv.MultiEnvPPO\n"
        "assert get_trainable_cls('MultiEnvIQL') is rllib_multienv.MultiEnvIQL\n"
    )


def test_an_agent_needs_no_ray() -> None:
    python("import sys; from rllib_multienv import MultiEnvAgent; assert 'ray' not in sys.modules")
