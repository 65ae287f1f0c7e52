"""Data sets of each library as environments, with the real library and without the internet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gymnasium import spaces

from rllib_multienv import DatasetEnv
from rllib_multienv.envs.dataset import DatasetError
from rllib_multienv.envs.dataset_columns import Targets
from rllib_multienv.envs.dataset_sources import Column, read_table

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 20, 24, 3), dtype=np.uint8)
LABELS = [0, 1, 2, 0, 1, 2]


def made(source: Any, **kwargs: Any) -> DatasetEnv:
    env = DatasetEnv(source, **{"split": "all", "shuffle": False, "standardize": False, **kwargs})
    env.reset(seed=0)
    return env


def test_bunches_of_scikit_learn_know_their_names_and_classes() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    digits = made(datasets.load_digits())
    assert (digits.name, digits.num_rows, digits.problem) == ("digits", 1797, "classification")
    assert digits.observation_space.shape == (64,) and digits.action_space == spaces.Discrete(10)
    flowers = made("sklearn.datasets:load_iris")
    assert flowers.component_names[1] == ("setosa", "versicolor", "virginica")
    assert flowers.component_names[0][0] == "sepal length (cm)"
    assert made(datasets.load_diabetes()).problem == "regression"
    assert made(datasets.load_breast_cancer()).component_names[1] == ("malignant", "benign")
    assert made(datasets.load_linnerud()).action_space.shape == (3,)


def test_frames_have_categories_texts_and_numbers() -> None:
    frame = pd.DataFrame(
        {
            "age": [30, 41, 22],
            "colour": pd.Categorical(["red", "blue", "red"]),
            "smokes": [True, False, True],
            "kind": ["b", "a", "b"],
        }
    )
    env = made(frame, y="kind")
    assert env.reset()[0].tolist() == [30.0, 0.0, 1.0, 1.0] or env.observation_space.shape == (4,)
    assert env.component_names == (("age", "colour is blue", "colour is red", "smokes"), ("a", "b"))
    assert env.targets(np.arange(3)).tolist() == [1, 0, 1]
    assert made(frame, x=["age"], y="smokes").action_space == spaces.Discrete(2)


def test_missing_categories_are_an_error() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": pd.Categorical(["a", None])})
    with pytest.raises(DatasetError, match=r"row 1 has the label -1 .*missing"):
        made(frame, y="y")


def test_files_are_read(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1.0, 2.0], "b": [0.5, 1.5]}).to_csv(tmp_path / "data.csv", index=False)
    np.savez(tmp_path / "data.npz", a=np.ones((2, 3)), b=np.zeros(2))
    assert made(str(tmp_path / "data.csv"), y="b").observation_space.shape == (1,)
    assert made(str(tmp_path / "data.npz"), y="b").observation_space.shape == (3,)


class Pairs(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return torch.full((2,), float(row)), LABELS[row]


class Stream(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Any:
        return (Pairs()[row] for row in range(6))


@pytest.mark.parametrize("source", [Pairs(), Stream(), torch.utils.data.Subset(Pairs(), range(6))])
def test_data_sets_of_pytorch(source: Any) -> None:
    env = made(source, classes=3)
    assert env.num_rows == 6 and env.observations(4).tolist() == [4.0, 4.0]
    assert env.targets(np.arange(6)).tolist() == LABELS


def test_tensors_of_pytorch() -> None:
    source = torch.utils.data.TensorDataset(torch.ones(4, 3), torch.arange(4) % 2)
    assert made(source, classes=2).observation_space.shape == (3,)
    assert made((torch.ones(4, 3), torch.rand(4))).problem == "regression"


def test_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "words": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["cat", "dog", "owl"]),
            "topics": datasets.List(datasets.ClassLabel(num_classes=4)),
            "numbers": datasets.List(datasets.Value("float32")),
        }
    )
    columns = {
        "image": list(IMAGES),
        "words": [f"word {n}" for n in range(6)],
        "label": LABELS,
        "topics": [[0], [1, 3], [], [2], [0, 1], [3]],
        "numbers": [[1.0], [1.0, 2.0], [3.0], [], [4.0], [5.0]],
    }
    dataset = datasets.Dataset.from_dict(columns, features=features)
    seen = made(dataset, x="image", y="label")
    assert seen.observation_space == spaces.Box(0, 255, (20, 24, 3), np.uint8)
    assert seen.component_names[1] == ("cat", "dog", "owl")
    np.testing.assert_array_equal(seen.observations(3), IMAGES[3])
    several = made(dataset, x="numbers", y="topics")
    assert several.action_space == spaces.MultiBinary(4)
    assert several.targets(1).tolist() == [0, 1, 0, 1]
    assert several.observations(1).tolist() == [1.0, 2.0, 2.0]  # padded, and how many
    both = made(dataset, x=["words", "numbers"], y="label")
    assert set(both.observation_space) == {"numbers", "words"}
    assert both.observation_space.contains(both.reset()[0])

    dataset.save_to_disk(tmp_path / "saved")
    split = datasets.DatasetDict({"train": datasets.load_from_disk(str(tmp_path / "saved")), "test": dataset})
    own = DatasetEnv(split, x="words", y="label", split="test")
    assert own.num_rows == 6 and own.reset(seed=0)[1]["row"] >= 6
    lazy = dataset.to_iterable_dataset()
    assert made(lazy, x="numbers", y="label").num_rows == 6


def test_tensorflow_datasets(tmp_path: Path) -> None:
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record")

    class Toy(tfds.core.GeneratorBasedBuilder):  # type: ignore[name-defined, misc]
        """Six images."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            features = {
                "image": tfds.features.Tensor(shape=(20, 24, 3), dtype=np.uint8),
                "text": tfds.features.Text(),
                "label": tfds.features.ClassLabel(names=["cat", "dog", "owl"]),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
            )

        def _split_generators(self, dl_manager: Any) -> Any:
            return {"train": self._generate_examples(), "test": self._generate_examples()}

        def _generate_examples(self) -> Any:
            for row, label in enumerate(LABELS):
                yield row, {"image": IMAGES[row], "text": f"word {row}", "label": label}

    builder = Toy(data_dir=str(tmp_path), file_format="array_record")
    builder.download_and_prepare()
    env = made(builder.as_data_source("train"))
    assert env.name == "toy" and env.observation_space == spaces.Box(0, 255, (20, 24, 3), np.uint8)
    assert env.component_names[1] == ("cat", "dog", "owl")
    assert sorted(env.targets(np.arange(6)).tolist()) == sorted(LABELS)
    assert made(builder.as_data_source(), x="text", y="label").num_rows == 12


def test_deep_lake(tmp_path: Path) -> None:
    deeplake = pytest.importorskip("deeplake")
    dataset = deeplake.create(f"file://{tmp_path / 'lake'}")
    dataset.add_column("numbers", deeplake.types.Array("float32", shape=[3]))
    dataset.add_column("label", deeplake.types.Int32())
    dataset.append({"numbers": np.ones((6, 3), np.float32), "label": np.array(LABELS, np.int32)})
    dataset.commit()
    env = made(deeplake.open_read_only(f"file://{tmp_path / 'lake'}"), x="numbers", y="label", classes=3)
    assert env.observation_space.shape == (3,) and env.targets(np.arange(6)).tolist() == LABELS


def test_images_of_several_sizes_need_a_size() -> None:
    images = np.empty(2, dtype=object)
    images[:] = [IMAGES[0], IMAGES[0][:18]]
    source = {"image": images, "y": np.array([True, False])}
    with pytest.raises(DatasetError, match="image_size="):
        made(source, y="y")
    assert made(source, y="y", image_size=(32, 40)).observation_space.shape == (32, 40, 3)


def test_small_images_are_numbers() -> None:
    assert made((IMAGES[:, :8, :8, 0], np.array(LABELS)), classes=3).observation_space.shape == (64,)


def test_texts_are_cut_and_counted() -> None:
    env = made({"words": ["abc", "abcdefgh"], "y": [0.5, 1.5]}, y="y", max_length=5)
    assert env.num_cut == 1 and env.observations(1) == "abcde"
    assert isinstance(env.observation_space, spaces.Text) and env.observation_space.max_length == 5


def test_rows_may_be_mappings_pairs_or_alone() -> None:
    assert list(read_table([{"a": 1.0, "b": 2.0}], 10).columns) == ["a", "b"]
    assert read_table(iter([(1.0, 2.0)]), 10).y == "y"
    assert made([[1.0, 2.0, 3.0]], split="all").problem == "none"


def test_bits_are_labels() -> None:
    bits = np.array([[True, False], [True, True]])
    targets = Targets.of("y", Column(bits), train=np.arange(2))
    assert targets.space == spaces.MultiBinary(2)
    assert targets.scores(np.arange(2), np.array([[1, 0], [0, 1]]), np.ones(2)).tolist() == [1.0, 0.5]
