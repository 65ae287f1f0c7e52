"""Setting what the caller of a configuration's method has given, and the checks that several settings share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided

from rllib_multienv.gym_ids import did_you_mean
from rllib_multienv.spec import SpaceSpec


class SettingChecksMixin(AlgorithmConfig):
    """Every check raises RLlib's ``ValueError``, with the setting's name and what would be right.

    Attributes:
        PER_ENVIRONMENT: settings that ``algorithm_config_overrides_per_module`` may change for one environment.
        space_specs: spaces of the environments, by env id.
    """

    PER_ENVIRONMENT: tuple[str, ...] = ()
    space_specs: dict[str, SpaceSpec]

    def _set_given(self, **settings: Any) -> None:
        """Set those that the caller of a method has given."""
        for name, value in settings.items():
            if value is not NotProvided:
                setattr(self, name, value)

    def _validate_seconds(self, name: str) -> None:
        value = getattr(self, name)
        if not (isinstance(value, int | float) and value > 0):
            self._value_error(f"{name}={value!r}: must be a positive number of seconds.")

    def _validate_count(self, name: str, *, optional: bool = False) -> None:
        value = getattr(self, name)
        if optional and value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            or_none = ", or None" if optional else ""
            self._value_error(f"{name}={value!r}: must be a whole number of at least 1{or_none}.")

    def _validate_choice(self, name: str, choices: Sequence[str]) -> None:
        value = getattr(self, name)
        if value not in choices:
            self._value_error(f"{name}={value!r}: must be one of {', '.join(map(repr, choices))}.")

    def _validate_env_keys(self, name: str, keys: Any) -> None:
        known = list(self.space_specs)
        for key in keys:
            if key not in known:
                self._value_error(f"{name}: there is no environment {key!r}.{did_you_mean(str(key), known)}")

    def _validate_overrides(self) -> None:
        overrides = self.algorithm_config_overrides_per_module or {}
        self._validate_env_keys("algorithm_config_overrides_per_module", overrides)
        for env_id, settings in overrides.items():
            for key in settings:
                if key not in self.PER_ENVIRONMENT:
                    self._value_error(
                        f"algorithm_config_overrides_per_module[{env_id!r}]: {key!r} cannot differ between "
                        f"environments; these can: {', '.join(self.PER_ENVIRONMENT)}."
                        f"{did_you_mean(key, self.PER_ENVIRONMENT)}"
                    )
