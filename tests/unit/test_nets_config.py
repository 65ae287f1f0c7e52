"""Network configs: JSON round trip, and errors that name the field."""

import json
from typing import Any

import pytest

from rllib_multienv.nets import (
    AgnosticNetConfig,
    GeneratedNetConfig,
    MLPNetConfig,
    SingleNetConfig,
    SpecificNetConfig,
    net_config_from_dict,
)


@pytest.mark.parametrize(
    "config",
    [
        AgnosticNetConfig(),
        AgnosticNetConfig.paper(),
        MLPNetConfig(hidden=(8, 4), activation="relu"),
        SingleNetConfig.paper(depth=3),
        SpecificNetConfig.paper(decoder_depth=2, squash_mean=True),
        GeneratedNetConfig(width=32, value_head="hl_gauss"),
    ],
)
def test_round_trip_through_json(config: Any) -> None:
    assert net_config_from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_paper_sizes() -> None:
    paper = AgnosticNetConfig.paper(dropout=0.0)
    assert (paper.d_model, paper.d_state, paper.dim_feedforward, paper.res_mlp_width) == (256, 256, 256, 256)
    assert (paper.num_embedding_layers, paper.num_transformer_layers, paper.num_heads) == (2, 2, 1)
    assert (paper.res_mlp_depth, paper.dropout) == (2, 0.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("d_model", 0), ("d_model", 7), ("d_state", 3), ("d_state", "16"),
        ("embedding", "lstm"), ("num_heads", 5), ("num_heads", 0),
        ("num_embedding_layers", 0), ("num_transformer_layers", -1), ("dim_feedforward", 0),
        ("res_mlp_depth", -1), ("res_mlp_width", -1), ("dropout", 1.0), ("context", "name"),
        ("output_gain", 0.0), ("init_scale", 0.0),
    ],
)  # fmt: skip
def test_bad_agnostic_fields_are_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}="):
        AgnosticNetConfig(**{field: value})


@pytest.mark.parametrize(
    ("make", "field", "value", "expected"),
    [
        (MLPNetConfig, "hidden", (64, 0), "one or more whole numbers >= 1"),
        (MLPNetConfig, "hidden", (), "one or more whole numbers >= 1"),
        (MLPNetConfig, "hidden", 64, "a list, each item a whole number"),
        (MLPNetConfig, "hidden", (64, 1.5), "a list, each item a whole number"),
        (MLPNetConfig, "activation", "swish", "in \\['tanh'"),
        (MLPNetConfig, "squash_mean", "no", "True or False"),
        (GeneratedNetConfig, "width", True, "a whole number"),
        (GeneratedNetConfig, "dropout", "0.1", "a number"),
        (SingleNetConfig, "depth", 2.0, "a whole number"),
        (SpecificNetConfig, "middle_depth", None, "a whole number"),
        (AgnosticNetConfig, "res_mlp_width", "8", "a whole number or None"),
        (AgnosticNetConfig, "share_encoder", 1, "True or False"),
    ],
)
def test_a_wrong_type_is_named(make: Any, field: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}=.*: must be {expected}"):
        make(**{field: value})


@pytest.mark.parametrize("config", [SingleNetConfig, SpecificNetConfig])
@pytest.mark.parametrize(("field", "value"), [("width", 0), ("width", 6.5), ("dropout", 1.0)])
def test_bad_baseline_fields_are_named(config: Any, field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field}="):
        config(**{field: value})


def test_bad_depths_are_named() -> None:
    with pytest.raises(ValueError, match=r"^depth="):
        SingleNetConfig(depth=0)
    for field in ("encoder_depth", "middle_depth", "decoder_depth"):
        with pytest.raises(ValueError, match=f"^{field}="):
            SpecificNetConfig(**{field: 0})


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'd_model'"):
        net_config_from_dict({"type": "agnostic", "d_modle": 8})
    with pytest.raises(ValueError, match=r"unknown field 'hidden_dim' .* did you mean 'width'"):
        net_config_from_dict({"type": "care", "hidden_dim": 8})
    with pytest.raises(ValueError, match=r"unknown field 'num_encoders' of the 'agnostic' .* but a field of 'care'"):
        net_config_from_dict({"type": "agnostic", "num_encoders": 8})
    with pytest.raises(ValueError, match="did you mean 'agnostic'"):
        net_config_from_dict({"type": "agnostc"})
    with pytest.raises(ValueError, match="known: agnostic, care, distral, dream, generated, hip, mlp"):
        net_config_from_dict({})
