"""The files of `docs/cluster/` fit Ray's own schema, the versions that the package asks for, and one another."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_helpers import ROOT
from ray.autoscaler._private.util import prepare_config, validate_config

FOLDER = ROOT / "docs" / "cluster"
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def pinned(name: str) -> set[str]:
    """The versions at which the extras and the base pin a distribution."""
    requirements = [SETUP["options"]["install_requires"], *SETUP["options.extras_require"].values()]
    return set(re.findall(rf"^{name}\[\w+\]==(\S+)$", "\n".join(requirements), flags=re.MULTILINE))


def kuberay() -> tuple[dict[str, Any], dict[str, Any]]:
    claim, cluster = yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text())
    return claim, cluster


def test_one_version_of_ray_is_asked_for() -> None:
    assert len(pinned("ray")) == 1


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_images_have_the_ray_and_a_python_of_the_package(path: Path) -> None:
    text = path.read_text()
    (ray,) = pinned("ray")
    images = re.findall(r"ray:?(\d+\.\d+\.\d+)-py(\d)(\d+)-", text)
    assert len(images) == len(re.findall(r"rayproject/ray:|rllib-multienv:", text)) > 0
    for version, major, minor in images:
        assert version == ray
        assert f"Programming Language :: Python :: {major}.{minor}" in SETUP["metadata"]["classifiers"]


def test_the_launcher_takes_the_aws_file() -> None:
    config = prepare_config(yaml.safe_load((FOLDER / "aws.yaml").read_text()))
    validate_config(config)
    workers = {name: kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]}
    assert config["max_workers"] == sum(kind["max_workers"] for kind in workers.values())
    for source in config["file_mounts"].values():
        assert source.startswith("~") or (ROOT / source).exists(), source


def test_the_kubernetes_file_is_a_ray_cluster() -> None:
    claim, cluster = kuberay()
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    spec = cluster["spec"]
    assert {spec["rayVersion"]} == pinned("ray")
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        (container,), (volume,) = pod["containers"], pod["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert [mount["name"] for mount in container["volumeMounts"]] == [volume["name"]]
        # Ray counts the limits, Kubernetes places by the requests.
        assert container["resources"]["limits"] == container["resources"]["requests"]


def test_both_clusters_have_the_storage_at_the_place_that_the_document_names() -> None:
    _, cluster = kuberay()
    container = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    place = container["volumeMounts"][0]["mountPath"]
    aws = yaml.safe_load((FOLDER / "aws.yaml").read_text())
    assert f"-v {place}:{place}" in aws["docker"]["run_options"]
    assert f"--storage {place}/results" in (ROOT / "docs" / "cluster.md").read_text()
