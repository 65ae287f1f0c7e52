"""Of an error in one of Ray's processes the user sees what was raised there, not Ray's wrapping."""

from __future__ import annotations

from rllib_multienv.cli.terminal import failure_reason

REMOTE = """\
ray::PPO.train() (pid=1, ip=1.2.3.4)
  File "env.py", line 1, in step
    raise ValueError("the motor is broken")
ValueError: the motor is broken

The above exception was the direct cause of the following exception:

ray::PPO.train() (pid=1, ip=1.2.3.4)
  File "runner.py", line 2, in sample
    raise {last}
{last}
"""


def test_the_last_exception_of_a_remote_traceback_is_shown() -> None:
    error = RuntimeError(REMOTE.format(last="pkg.EnvFailure: broken-motor, copy 0: the motor is broken"))
    assert failure_reason(error) == "pkg.EnvFailure: broken-motor, copy 0: the motor is broken"


def test_this_packages_own_errors_are_shown_without_their_class() -> None:
    error = RuntimeError(REMOTE.format(last="rllib_multienv.envs.errors.EnvFailure: Environment 'a' failed: b"))
    assert failure_reason(error) == "Environment 'a' failed: b"


def test_an_exception_without_a_message_gives_way_to_its_cause() -> None:
    assert failure_reason(RuntimeError(REMOTE.format(last="RuntimeError"))) == "ValueError: the motor is broken"


def test_a_plain_exception_is_shown_as_it_is() -> None:
    assert failure_reason(ValueError("no")) == "ValueError: no"
