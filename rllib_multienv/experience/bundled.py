"""Data sets that come with scikit-learn, registered with Gymnasium as ``multienv/Digits-v0`` and so on."""

from __future__ import annotations

from gymnasium.envs.registration import register

#: Functions of `sklearn.datasets` whose data sets come with the package, by the name of the environment.
BUNDLED = {
    "Digits": "load_digits", "Iris": "load_iris", "Wine": "load_wine", "BreastCancer": "load_breast_cancer",
    "Diabetes": "load_diabetes", "Linnerud": "load_linnerud",
}  # fmt: skip

for _name, _function in BUNDLED.items():
    register(
        id=f"multienv/{_name}-v0",
        entry_point="rllib_multienv.envs.dataset:DatasetEnv",
        kwargs={"source": f"sklearn.datasets:{_function}"},
    )
