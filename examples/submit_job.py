"""Submits a training to a Ray cluster, follows its log, and plays one episode with the trained agent.

Run it from the root of the repository. A cluster on this machine will do. The extra ``cluster`` is needed, and both
commands need the same Python environment::

    export RAY_AUTH_MODE=token && ray get-auth-token --generate
    ray start --head
    python examples/submit_job.py --storage /tmp/multienv

The current folder is uploaded, and the cluster runs ``python -m rllib_multienv train FILE`` in it. Its output is shown
as it comes: a line every ten seconds for half a minute, then a table of returns. At the end are the job's status and
exit status (also this program's), the path of the checkpoint, and the return of one episode of CartPole-v1. Arguments
after ``--`` go to ``multienv train``::

    python examples/submit_job.py --storage /mnt/cluster/results --config tune_configs/quickstart.yaml \\
        --address http://127.0.0.1:8265 -- --seed 1 --env-runners 4

``--storage`` is a folder that every node of the cluster has under this name. Ctrl-C stops following, not the job. See
docs/cluster.md, also about errors.
"""

import argparse
import asyncio
import logging
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from rllib_multienv import MultiEnvAgent

# As in a .gitignore. Ray leaves out what the folder's own .gitignore names, too.
NOT_UPLOADED = [".git", ".venv", "venv", "results", "shared", "*.egg-info", "__pycache__", ".*_cache"]
# A job that is stopped gets SIGTERM, on which the training saves a checkpoint; Ray alone would give it 3 seconds.
STOP_WAIT_S = 300


def parse_arguments() -> argparse.Namespace:
    """The command line; see the top of this file."""
    parser = argparse.ArgumentParser(description="Train on a Ray cluster.", allow_abbrev=False)
    parser.add_argument("--address", default=os.environ.get("RAY_API_SERVER_ADDRESS") or "http://127.0.0.1:8265")
    parser.add_argument("--config", default="examples/submit_job.yaml", help="in the current folder, or absolute")
    parser.add_argument("--storage", required=True, help="folder that every node has under this name")
    parser.add_argument("--name", help="of the job, and of its folder in the storage; default: from file and time")
    parser.add_argument("--pip", nargs="+", metavar="REQUIREMENT", help="to be installed for this job on every node")
    parser.add_argument("arguments", nargs="*", metavar="-- ARGUMENT", help="of `multienv train`")
    options = parser.parse_args()
    if not Path(options.storage).is_absolute():
        parser.error(f"--storage {options.storage}: must be absolute; a job's own folder goes when the job ends")
    options.name = options.name or f"{Path(options.config).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    return options


def connect(address: str) -> JobSubmissionClient:
    """A client of the job server at ``address``; ends the program if there is none or if it refuses."""
    for variable in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        os.environ.pop(variable, None)  # Ray would take these instead of the address that it is given
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, AuthenticationError) as error:
        sys.exit(f"{error}\nSee 'Error messages' in docs/cluster.md.")


def submit(client: JobSubmissionClient, options: argparse.Namespace) -> None:
    """Upload the current folder and start the training in it."""
    command = ["python", "-m", "rllib_multienv", "train", options.config, *options.arguments]
    command += ["--results", options.storage, "--name", options.name]
    runtime_env: dict[str, Any] = {
        "working_dir": ".",
        "excludes": NOT_UPLOADED,
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)},
    }
    if options.pip:
        runtime_env["pip"] = options.pip
    # One name for both: the checkpoint can be found from the job, and the other way round.
    client.submit_job(entrypoint=shlex.join(command), submission_id=options.name, runtime_env=runtime_env)


async def follow(client: JobSubmissionClient, name: str) -> None:
    """Print the job's log as it grows, until the job ends."""
    shown = 0
    while not client.get_job_status(name).is_terminal():
        position = 0
        try:
            async for text in client.tail_job_logs(name):
                print(text[max(0, shown - position) :], end="", flush=True)
                position += len(text)
                shown = max(shown, position)
        except RuntimeError:
            await asyncio.sleep(1)  # the connection was cut; the next one begins with the whole log again
    print(client.get_job_logs(name)[shown:], end="", flush=True)


def main() -> int:
    """Submit, follow, report; returns the job's exit status."""
    logging.disable(logging.INFO)  # Ray would list every file that it leaves out
    options = parse_arguments()
    client = connect(options.address)
    submit(client, options)
    print(f"submitted {options.name} to {options.address}", flush=True)
    try:
        asyncio.run(follow(client, options.name))
    except KeyboardInterrupt:
        print(f"The job continues. To stop it: ray job stop --address {options.address} {options.name}")
        return 130
    except OSError as error:
        sys.exit(f"{error}\nThe cluster cannot be reached any more. The job continues if the cluster does.")
    job = client.get_job_info(options.name)
    print(f"job {options.name}: {job.status.value}, exit status {job.driver_exit_code}")
    if job.driver_exit_code is None:
        print(job.message)  # it was stopped, or could not even be started: then the log does not say why
    # `multienv train` lets this link point at the latest checkpoint.
    checkpoint = Path(options.storage, options.name, "checkpoint")
    if checkpoint.is_dir():
        print(f"checkpoint: {checkpoint.resolve()}")
        if job.status == JobStatus.SUCCEEDED:
            play(checkpoint)
    elif job.status == JobStatus.SUCCEEDED:
        print(f"checkpoint: {checkpoint} on the cluster; no such folder on this machine")
    return 1 if job.driver_exit_code is None else job.driver_exit_code


def play(checkpoint: Path) -> None:
    """Let the agent play one episode of the first of its environments, without Ray."""
    agent = MultiEnvAgent.from_checkpoint(checkpoint)
    env_id = next(iter(agent.env_specs))
    ((episode_return, length),) = agent.evaluate(env_id, episodes=1)
    print(f"one episode of {env_id}: return {episode_return:.1f} in {length} steps")


if __name__ == "__main__":
    sys.exit(main())
