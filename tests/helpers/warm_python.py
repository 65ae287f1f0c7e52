"""Python programs that start at once: forked from a server that has imported PyTorch and other slow libraries.

Importing them takes seconds of a core, and tests start hundreds of processes that need them: workers of Ray, examples,
commands. This file is the server, `run_program` runs a program there, and Ray starts its workers there when this file
takes the place of its own ``setup_worker.py``. Ray reads environment variables when it is imported, so the workers of
each of its jobs are forked from a server of their own, with the job's variables, which the first server runs.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SERVER = "MULTIENV_TEST_SERVER"  # environment variable: the server's socket
PRELOADED = [
    *("aiohttp", "cryptography.x509", "fsspec", "google.protobuf", "gymnasium.envs.classic_control", "imageio"),
    *("gymnasium.envs.mujoco.mujoco_env", "jsonschema", "matplotlib.pyplot", "msgpack", "pandas", "pyarrow.dataset"),
    *("pyarrow.fs", "pyarrow.json", "pyarrow.parquet", "pydantic.v1", "requests", "rich", "rllib_multienv.agent"),
    *("scipy.signal", "tensorboardX", "torch._dynamo", "torch.distributed", "tree", "typer", "yaml"),
]
PRELOADED_FOR_WORKERS = [
    *("ray.tune", "ray.train.torch", "ray._private.workers.default_worker"),
    *("rllib_multienv.algorithms.ppo", "rllib_multienv.algorithms.iql"),
]


class Program:
    """A program that the server runs, in a session and process group of its own.

    Args:
        arguments: A file, or -m and a module, and what follows it in `sys.argv`.
        streams: File descriptors of its standard input, output and error.
        cwd: Current folder; default: this process's.
        env: Environment variables; default: this process's.
        server: The server's socket; default: that of `running_server`.
    """

    def __init__(
        self,
        arguments: list[str],
        streams: Sequence[int] = (0, 1, 2),
        cwd: str | None = None,
        env: Mapping[str, str] = os.environ,
        server: str | None = None,
    ) -> None:
        text = json.dumps({"arguments": arguments, "cwd": cwd or os.getcwd(), "env": dict(env)}).encode()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(server or os.environ[SERVER])
        socket.send_fds(self._socket, [struct.pack("!I", len(text))], streams)
        self._socket.sendall(text)
        self.pid = self._receive()

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal.

        Raises:
            TimeoutError: The program runs longer.
        """
        self._socket.settimeout(timeout)
        return self._receive()

    def _receive(self) -> int:
        answer = self._socket.recv(4, socket.MSG_WAITALL)
        if len(answer) < 4:
            raise ConnectionError("the server has ended")
        return struct.unpack("!i", answer)[0]


def listen(path: str) -> socket.socket:
    """A socket that takes requests at once, which a server answers when it has started."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    return listener


@contextlib.contextmanager
def running_server() -> Iterator[None]:
    """The server, for this process and those that it starts."""
    with tempfile.TemporaryDirectory(prefix="warm") as folder:
        path = os.path.join(folder, "socket")
        with listen(path) as listener:
            command = [sys.executable, __file__, "--serve", str(os.getpid())]
            server = subprocess.Popen(command, stdin=listener, start_new_session=True)
        os.environ[SERVER] = path
        try:
            yield
        finally:
            del os.environ[SERVER]
            server.terminate()
            server.wait()


def run_program(
    arguments: Sequence[object], *, cwd: Path, env: Mapping[str, str], timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run a Python program to its end, as `subprocess.run` does; without the server where there is none."""
    texts = [*map(str, arguments)]
    if SERVER not in os.environ:
        command = [sys.executable, *texts]
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)
    with open(os.devnull) as empty, tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        program = Program(texts, [empty.fileno(), output.fileno(), errors.fileno()], str(cwd), env)
        try:
            status = program.wait(timeout)
        except TimeoutError:
            os.killpg(program.pid, signal.SIGKILL)
            raise
        for stream in (output, errors):
            stream.seek(0)
        return subprocess.CompletedProcess(texts, status, output.read(), errors.read())


def serve(modules: Sequence[str], user: int) -> dict[str, Any] | None:
    """Fork a process for each request to the socket that is the standard input.

    Args:
        modules: What to import first.
        user: Process for which this one is here: it ends with it.

    Returns:
        In a forked process its request, in the server None.
    """
    for name in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    listener = socket.socket(fileno=os.dup(0))
    gc.freeze()
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    running: dict[int, socket.socket] = {}
    selector = selectors.DefaultSelector()
    for source in (listener, woken):
        selector.register(source, selectors.EVENT_READ)
    while os.path.exists(f"/proc/{user}"):
        for key, _ in selector.select(timeout=1):
            if key.fileobj is listener:
                client, _ = listener.accept()
                header, streams, _, _ = socket.recv_fds(client, 4, 3)
                text = client.recv(struct.unpack("!I", header)[0], socket.MSG_WAITALL)
                if (pid := os.fork()) == 0:
                    os.setsid()  # Ray kills the process groups of its workers
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for target, stream in enumerate(streams):
                        os.dup2(stream, target)
                        os.close(stream)
                    for end in (listener, woken, wake, client, *running.values()):
                        end.close()
                    selector.close()
                    return json.loads(text)
                for stream in streams:
                    os.close(stream)
                client.sendall(struct.pack("!i", pid))
                running[pid] = client
            elif key.fileobj is woken:
                woken.recv(4096)
                while running:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                    if pid == 0:
                        break
                    with running.pop(pid) as client, contextlib.suppress(OSError):  # the client may have ended
                        client.sendall(struct.pack("!i", os.waitstatus_to_exitcode(status)))
    return None


def run(arguments: list[str], cwd: str, env: dict[str, str]) -> None:
    """Run a program in this process as if Python had been started for it."""
    import numpy as np

    np.random.seed()  # its state is the server's
    own = {os.path.dirname(os.path.abspath(__file__)), *os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    paths = [path for path in env.get("PYTHONPATH", "").split(os.pathsep) if path]
    is_module = arguments[0] == "-m"
    arguments = arguments[is_module:]
    first = cwd if is_module else os.path.dirname(os.path.abspath(arguments[0]))
    sys.path[:] = [first, *paths, *(path for path in sys.path if path not in own)]
    sys.argv[:] = arguments
    if is_module:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(arguments[0], run_name="__main__")


def start_worker(arguments: list[str]) -> None:
    """Start a worker of Ray and end as it ends; with Ray's own program where it needs more than the server has."""
    context = json.loads(next((a.partition("=")[2] for a in arguments if a.startswith("--serialized")), "{}"))
    own_python = context.get("command_prefix") or context.get("py_executable", sys.executable) != sys.executable
    if own_python or SERVER not in os.environ or "--language=PYTHON" not in arguments:
        setup = os.path.join(os.path.dirname(arguments[0]), "setup_worker.py")
        os.execv(sys.executable, [sys.executable, setup, *arguments])
    rest = [argument for argument in arguments if not argument.startswith(("--serialized-runtime-env", "--language="))]
    raylet = os.environ["RAY_RAYLET_PID"]
    server = f"{os.environ[SERVER]}.{raylet}.{os.environ['RAY_JOB_ID']}"
    with contextlib.suppress(FileExistsError, OSError), listen(server) as listener:
        Program([__file__, "--serve-workers", raylet], [listener.fileno(), 1, 2])
    worker = Program(rest, env={**os.environ, **(context.get("env_vars") or {})}, server=server)
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(worker.pid, number))
    sys.exit(worker.wait() % 256)


def main(arguments: list[str]) -> None:
    """Be a server, or start a worker of Ray."""
    if arguments[0] == "--serve":
        request = serve(PRELOADED, int(arguments[1]))
        if request is not None:
            run(**request)
    elif arguments[0] == "--serve-workers":
        request = serve(PRELOADED_FOR_WORKERS, int(arguments[1]))
        try:
            if request is not None:
                run(**request)
        except Exception:
            traceback.print_exc()
        finally:  # without taking thousands of modules apart, which takes half a second
            atexit._run_exitfuncs()
            os._exit(0)
    else:
        start_worker(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
