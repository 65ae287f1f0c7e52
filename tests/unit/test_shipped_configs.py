"""Configurations that come with the package: found by name, in the wheel, and one to start from."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from cli_helpers import ROOT, invoke_cli

import rllib_multienv
from rllib_multienv.cli.training import SHIPPED, find_config, with_options
from rllib_multienv.config_files import load_config_file


def test_a_name_stands_for_a_shipped_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_config(Path("quickstart")) == SHIPPED / "quickstart.yaml"
    assert find_config(Path("four_goals")) == SHIPPED / "multitask" / "four_goals.yaml"
    assert find_config(Path("mini_mix"), "experiments") == SHIPPED / "experiments" / "mini_mix.yaml"
    for path in (Path("quickstart.yaml"), Path("folder/quickstart")):
        assert find_config(path) == path
    monkeypatch.chdir(tmp_path)
    Path("quickstart").touch()
    assert find_config(Path("quickstart")) == Path("quickstart")


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [("MultiEnvSAC", "num_env_steps_sampled_lifetime"), ("mine:Offline", "num_steps_lifetime")],
)
def test_steps_are_of_environments_unless_data_sets_are_all_there_is(tmp_path: Path, algorithm: str, key: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"algorithm: {algorithm}\noffline_data: {{datasets: {{cart: cart.hdf5}}}}\n")
    assert with_options(load_config_file(path), stop_steps=100).tree["stop"] == {key: 100}


def test_a_mistyped_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    done = invoke_cli("train", "quikstart", cwd=tmp_path)
    assert done.exit_code == 1
    assert "no configuration of that name. Did you mean 'quickstart'" in done.stderr


def test_the_wheel_has_the_files() -> None:
    setuptools = pytest.importorskip("setuptools")
    with contextlib.chdir(ROOT):
        distribution = setuptools.Distribution()
        distribution.parse_config_files()
        build = distribution.get_command_obj("build_py")
        build.ensure_finalized()
        files = {str(Path(folder, file)) for _, folder, _, found in build.data_files for file in found}
    package = SHIPPED.parent
    there = [path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert {"rllib_multienv/tune_configs/quickstart.yaml", "rllib_multienv/agents/quickstart/multienv.json"} <= files
    assert {str(path.relative_to(package.parent)) for path in there} == files
    assert distribution.metadata.version == rllib_multienv.__version__


def test_init_writes_a_file_that_can_be_trained(tmp_path: Path) -> None:
    done = invoke_cli("init", "my.yaml", cwd=tmp_path)
    assert done.exit_code == 0 and "multienv train my.yaml" in done.stdout
    text = (tmp_path / "my.yaml").read_text()
    assert "multienv train my.yaml" in text and text.count("#") > 20
    file = load_config_file(tmp_path / "my.yaml")
    assert file.name == "my" and file.single
    again = invoke_cli("init", "my.yaml", cwd=tmp_path)
    assert again.exit_code == 1 and "--overwrite" in again.stderr
    assert invoke_cli("init", "my.yaml", "--overwrite", cwd=tmp_path).exit_code == 0


def test_the_citation_names_this_version() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == rllib_multienv.__version__
