"""`examples/submit_job.py` against a real cluster on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from cli_helpers import ROOT
from ray.job_submission import JobStatus

from rllib_multienv import MultiEnvAgent

PROGRAM = ROOT / "examples" / "submit_job.py"
# Of the iterations, which are not what is tested here.
SHORT = ("--set", "env_runners.rollout_fragment_length=32", "--set", "training.num_epochs=1")


@dataclass(frozen=True)
class Cluster:
    address: str
    environment: dict[str, str]

    def submit(self, *arguments: object) -> list[str]:
        return [sys.executable, str(PROGRAM), "--address", self.address, *map(str, arguments)]

    def stop(self, job: str) -> None:
        """What `ray job stop` does."""
        header = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        request = urllib.request.Request(f"{self.address}/api/jobs/{job}/stop", headers=header, method="POST")
        urllib.request.urlopen(request, timeout=60).close()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in held]


def clean_environment() -> dict[str, str]:
    """Without any other Ray's address or token, and without the package, which comes with the job."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_") and name != "PYTHONPATH"}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])  # a job says just "python"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(24)}
    return {**kept, **token, "PATH": path, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def wait_until_up(url: str, head: subprocess.Popen[bytes], log: Path, timeout: float = 90) -> None:
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        assert head.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.3)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends Ray's processes of this group only; `ray stop` would end every Ray on the machine."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="mej", dir="/tmp"))  # short: the names of Ray's sockets end at 107 bytes
    gcs, dashboard, agent, client = free_ports(4)
    options = {
        "port": gcs,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "ray-client-server-port": client,
        "min-worker-port": 0,  # any, instead of a range that another Ray may have too
        "max-worker-port": 0,
        "temp-dir": folder / "ray",
        "num-cpus": 2,
        "include-dashboard": "true",
    }
    environment = clean_environment()
    log = folder / "head.log"
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    with log.open("wb") as output:
        head = subprocess.Popen(
            [*ray, *(f"--{name}={value}" for name, value in options.items())],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_up(f"http://127.0.0.1:{agent}/api/local_raylet_healthz", head, log)
        # The program itself runs on "another machine": it has the package, the cluster does not.
        environment = {**environment, "PYTHONPATH": str(ROOT)}
        yield Cluster(f"http://127.0.0.1:{dashboard}", environment)
    finally:
        end_group(head)
        shutil.rmtree(folder, ignore_errors=True)


def run(cluster: Cluster, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        cluster.submit(*arguments), cwd=ROOT, env=cluster.environment, capture_output=True, text=True, timeout=240
    )


def test_a_job_trains_and_its_checkpoint_is_fetched(cluster: Cluster, tmp_path: Path) -> None:
    # As RAY_ADDRESS is for `ray.init`: it must not divert the submission.
    cluster.environment["RAY_ADDRESS"] = "192.0.2.1:6379"
    done = run(cluster, "--storage", tmp_path, "--name", "first", "--", "--stop-steps", 1000, "--episodes", 1, *SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"submitted first to {cluster.address}"
    assert any("iteration 1 " in line and "CartPole-v1" in line for line in lines), done.stdout
    assert "job first: SUCCEEDED, exit status 0" in lines
    checkpoint = Path(next(line.removeprefix("checkpoint: ") for line in lines if line.startswith("checkpoint: ")))
    assert checkpoint.is_relative_to(tmp_path / "first")
    assert lines[-1].startswith("one episode of CartPole-v1: return ")
    agent = MultiEnvAgent.from_checkpoint(checkpoint)
    assert list(agent.env_specs) == ["CartPole-v1", "Pendulum-v1"]
    ((_, length),) = agent.evaluate("Pendulum-v1", episodes=1)
    assert length == 200
    # The job ran in the cluster that is there and did not start a Ray of its own.
    assert "Connecting to existing Ray cluster" in (tmp_path / "first" / "run.log").read_text()


@pytest.mark.long
def test_a_job_that_fails_shows_why(cluster: Cluster, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("environment: {envs: [CartPole-v1]}\ntraining: {actor_rl: 0.1}\n")
    done = run(cluster, "--storage", tmp_path / "results", "--config", bad, "--name", "bad")
    assert done.returncode == 1
    assert "actor_rl" in done.stdout and "actor_lr" in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stdout
    assert "job bad: FAILED, exit status 1" in done.stdout
    assert "checkpoint:" not in done.stdout


@pytest.mark.long
def test_a_job_that_is_stopped_leaves_a_checkpoint(cluster: Cluster, tmp_path: Path) -> None:
    process = subprocess.Popen(
        cluster.submit("--storage", tmp_path, "--name", "stopped", "--", "--stop-steps", 10_000_000, *SHORT),
        cwd=ROOT,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line)
            if "iteration 1 " in line:
                cluster.stop("stopped")
        assert process.wait(timeout=60) == 1
    finally:
        process.kill()
    text = "".join(output)
    assert "A checkpoint was saved; resume with: multienv train --resume" in text
    assert "job stopped: STOPPED" in text
    assert (tmp_path / "stopped" / "checkpoint" / "multienv.json").is_file(), text


@pytest.fixture
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("submit_job", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_address_without_a_cluster_is_an_error_in_words(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.setenv(variable, "http://192.0.2.1:8265")  # does not win over the address that is given
    (port,) = free_ports(1)
    with pytest.raises(SystemExit, match=f"Failed to connect to Ray at address: http://127.0.0.1:{port}"):
        program.connect(f"http://127.0.0.1:{port}")


def test_a_log_is_shown_once_though_its_connection_is_cut(
    program: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    class Client:
        """The first connection breaks, the second one ends early, the log of the ended job has one line more."""

        connections = 0

        def get_job_status(self, name: str) -> JobStatus:
            return JobStatus.SUCCEEDED if self.connections == 2 else JobStatus.RUNNING

        async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
            self.connections += 1
            yield "one\ntw"
            if self.connections == 1:
                raise RuntimeError("WebSocket connection closed unexpectedly")
            yield "o\nthree\n"

        def get_job_logs(self, name: str) -> str:
            return "one\ntwo\nthree\nfour\n"

    asyncio.run(program.follow(Client(), "name"))
    assert capsys.readouterr().out == "one\ntwo\nthree\nfour\n"


def test_a_relative_storage_is_refused(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["submit_job.py", "--storage", "results"])
    with pytest.raises(SystemExit):
        program.parse_arguments()
    assert "--storage results: must be absolute" in capsys.readouterr().err


def test_requirements_and_arguments_go_into_the_job(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--storage", "/results", "--config", "a b.yaml", "--name", "n", "--pip", "x==1", "--", "--seed", "1"]
    monkeypatch.setattr(sys, "argv", ["submit_job.py", *arguments])
    jobs: list[dict[str, Any]] = []
    program.submit(SimpleNamespace(submit_job=lambda **job: jobs.append(job)), program.parse_arguments())
    (job,) = jobs
    assert job["entrypoint"] == "python -m rllib_multienv train 'a b.yaml' --seed 1 --results /results --name n"
    assert job["submission_id"] == "n"
    assert job["runtime_env"]["pip"] == ["x==1"]
    assert job["runtime_env"]["working_dir"] == "."
