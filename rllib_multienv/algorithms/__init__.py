"""The algorithms: configuration, algorithm and learner of each."""

import logging

# Warnings of RLlib that its users can do nothing about: hints for those who come from its old API, a class that RLlib
# itself makes, and a package that it would only use for statistics.
_NOISE = {
    "ray.rllib.algorithms.algorithm_config": "You are running ",
    "ray._common.deprecation": "`RLModule(config=[RLModuleConfig object])`",
    "ray.tune.utils.util": "Install gputil",
}


def _is_not_noise(record: logging.LogRecord) -> bool:
    return _NOISE[record.name] not in record.getMessage()


for _name in _NOISE:
    logging.getLogger(_name).addFilter(_is_not_noise)
