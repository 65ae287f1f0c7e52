"""Every code block of the README and the documentation: Python runs, files are valid, commands and options exist."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import textwrap
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from cli_helpers import ROOT, TINY
from tiny_runs import TINY_NET

import rllib_multienv
from rllib_multienv import MultiEnvPPOConfig
from rllib_multienv.cli.app import app
from rllib_multienv.config_files import check_config_file, load_config_file
from rllib_multienv.experiments.file import load_experiment_file

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
OTHER_PROGRAMS = {"aws", "curl", "docker", "export", "kubectl", "pip", "pip3", "ray"}


def blocks(page: Path, *languages: str) -> list[str]:
    return [textwrap.dedent(text) for language, text in BLOCK.findall(page.read_text()) if language in languages]


def named(*languages: str) -> Any:
    pages = [page for page in PAGES if blocks(page, *languages)]
    assert pages
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


@named("python")
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: None) -> None:
    """The blocks of a page one after the other, with the smallest fragments and network and no workers."""
    build = MultiEnvPPOConfig.build_algo

    def build_small(config: MultiEnvPPOConfig, **kwargs: Any) -> Any:
        config.env_runners(num_env_runners=0, num_envs_per_env_runner=2, rollout_fragment_length=64)
        return build(config.rl_module(model_config=TINY_NET).training(num_epochs=1, num_minibatches=1), **kwargs)

    monkeypatch.setattr(MultiEnvPPOConfig, "build_algo", build_small)
    monkeypatch.chdir(tmp_path)
    Path("train.yaml").write_text(f"{TINY}tune: {{storage_path: {tmp_path}}}\n".replace("iteration: 4", "iteration: 1"))
    shutil.copytree(ROOT / "docs" / "results" / "mini_mix" / "metrics", "results/mix/metrics")
    names: dict[str, Any] = {"__name__": page.stem}
    for text in blocks(page, "python"):
        text = text.replace("s3://bucket/results", str(tmp_path)).replace("checkpoint_000003", "checkpoint_000000")
        exec(compile(text, str(page), "exec"), names)
    if "algo" in names:
        names["algo"].stop()


def test_the_reference_has_all_public_names() -> None:
    pages = runpy.run_path(str(ROOT / "docs/site_hooks.py"))["reference_pages"]()
    names = re.findall(r"^::: \S+\.(\w+)$", "\n".join(pages.values()), re.MULTILINE)
    assert set(rllib_multienv.__all__) <= set(names)


#: The modules that files name.
MODULES = {
    "my_callbacks.py": """from ray.rllib.callbacks.callbacks import RLlibCallback as MyCallback

def greet(**kwargs): print("hello")
""",
    "my_connectors.py": "def make(*args, **kwargs): return None\n",
}


@named("yaml")
def test_files_are_valid(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that are part of a configuration get an environment and, without runners of their own, the rest."""
    monkeypatch.syspath_prepend(tmp_path)
    for name, source in MODULES.items():
        tmp_path.joinpath(name).write_text(source)
    for tracker in ("wandb.Wandb", "mlflow.MLflow"):  # packages of the user's
        monkeypatch.setattr(f"ray.air.integrations.{tracker}LoggerCallback", lambda **arguments: arguments)
    for text in blocks(page, "yaml"):
        path = tmp_path / "file.yaml"
        path.write_text(text)
        if "phases:" in text:
            load_experiment_file(path)
            continue
        tree = yaml.safe_load(re.sub(r"!\w+", "", text))
        if "environment" not in tree:
            path.write_text(f"{text}\nenvironment: {{envs: [CartPole-v1]}}\n")
        check_config_file(load_config_file(path))


@named("", "bash", "console", "sh")
def test_commands_exist(page: Path) -> None:
    for text in blocks(page, "", "bash", "console", "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            for command in re.split(r"&&|\|", line.split("#")[0]):
                words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=.*", word)]
                check_command(words[1:] if words[:1] == ["--"] else words)


def check_command(words: list[str]) -> None:
    match words:
        case [] | ["." | "cd" | "python3", *_]:
            return
        case ["multienv", *arguments] | ["python", "-m", "rllib_multienv", *arguments]:
            group = typer.main.get_command(app)
            name, command, rest = group.resolve_command(typer.Context(group), arguments)  # type: ignore[attr-defined]
            command.make_context(name, rest)
        case ["python", program, *arguments]:
            source = (ROOT / program).read_text()
            for option in [word for word in arguments[: [*arguments, "--"].index("--")] if word.startswith("--")]:
                assert f'"{option}"' in source, f"{program} has no option {option}"
        case ["make", target, *_]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
        case [program, *_]:
            assert program in OTHER_PROGRAMS, f"what is {program!r}?"
            if "--" in words:
                check_command(words[words.index("--") + 1 :])
