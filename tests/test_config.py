"""Settings: what is unknown or of another type is refused by name, and what is read is what was written."""

import re
from dataclasses import dataclass, replace
from typing import Literal

import pytest

from ctsynth.config import MAY_CHANGE, RunConfig, TrainingConfig, build, read_toml
from ctsynth.errors import DataError, UsageError
from ctsynth.files import write_json
from ctsynth.labels import AMOS22


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    channels: int = 128
    rate: float = 0.0
    multipliers: tuple[int, ...] = (1, 2)
    betas: tuple[float, float] | None = None
    schedule: Literal["linear", "cosine"] = "linear"
    flip: bool = False


RUN = RunConfig(
    method="ddpm-mask",
    size=256,
    options={"multipliers": (1, 2)},
    training=TrainingConfig(betas=(0.9, 0.99), lr=1e-4),
    labels=AMOS22.as_json(),
    level=40.0,
    width=400.0,
    preset="paper",
)


def test_the_defaults_are_the_papers():  # Sec. 2: "Our implementation was based on"
    paper = TrainingConfig()
    assert (paper.iterations, paper.batch_size) == (150_000, 16)
    assert (paper.lr_schedule, paper.warmup, paper.clip_norm) == ("constant", 0, 0)


def test_values_take_the_type_of_their_field():
    options = build(Options, {"rate": 1, "multipliers": [1, 2, 4], "betas": [0, 1], "flip": True}, "x.toml")
    assert options == Options(rate=1.0, multipliers=(1, 2, 4), betas=(0.0, 1.0), flip=True)
    assert isinstance(options.rate, float)
    assert build(Options, {}, "x.toml") == Options()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("channels", "128"),
        ("channels", 128.0),
        ("channels", True),
        ("channels", None),
        ("rate", "0.1"),
        ("rate", False),
        ("multipliers", 3),
        ("multipliers", [1, "2"]),
        ("betas", [0.9]),
        ("betas", [0.9, 0.99, 0.999]),
        ("schedule", "sigmoid"),
        ("flip", 1),
    ],
)
def test_a_value_of_another_type_is_refused_with_source_key_and_value(key, value):
    with pytest.raises(UsageError) as refused:
        build(Options, {key: value}, "x.toml")
    said = str(refused.value)
    assert re.match(rf"x\.toml: {key}(\[1\])? is ", said)
    assert "wanted" in said
    assert repr(value if not isinstance(value, list) or len(value) != 2 else value[1]) in said


def test_an_unknown_key_is_named_with_the_known_ones():
    with pytest.raises(UsageError, match=r"x\.toml: unknown key 'chanels'") as refused:
        build(Options, {"chanels": 64}, "x.toml")
    assert "channels" in refused.value.hint


def test_a_key_inside_a_table_is_named_with_its_table():
    content = RUN.as_json()
    content["training"]["batchsize"] = 4
    with pytest.raises(UsageError, match=r"run: unknown key 'training\.batchsize'"):
        build(RunConfig, content, "run")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"iterations": 0}, "iterations"),
        ({"batch_size": -1}, "batch_size"),
        ({"batch_size": 16, "accumulate": 3}, "accumulate"),
        ({"ema": 1.0}, "ema"),
        ({"lr": 0.0}, "lr"),
        ({"warmup": -1}, "warmup"),
    ],
)
def test_invalid_numbers_are_refused_by_name(settings, named):
    with pytest.raises(UsageError, match=named):
        TrainingConfig(**settings)


def test_config_json_and_back_is_the_same_run(tmp_path):
    write_json(tmp_path / "config.json", RUN.as_json())
    read = RunConfig.read(tmp_path / "config.json")
    assert read == replace(RUN, options={"multipliers": [1, 2]})  # a method's options are built by the method
    assert read.training.betas == (0.9, 0.99)


@pytest.mark.parametrize("content", [{"schema": 99}, {}, [1], "x"])
def test_a_config_json_of_another_schema_is_refused_by_name(content, tmp_path):
    write_json(tmp_path / "config.json", content)
    with pytest.raises(DataError, match=r"config\.json: .*schema"):
        RunConfig.read(tmp_path / "config.json")


def test_a_toml_file_holds_method_preset_and_two_tables(tmp_path):
    path = tmp_path / "paper.toml"
    path.write_text('method = "ddpm-edge"\n[training]\nlr = 1e-4\n[options]\nchannels = 64\n')
    assert read_toml(path) == {"method": "ddpm-edge", "training": {"lr": 1e-4}, "options": {"channels": 64}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("iterations = 5", "unknown key 'iterations'"),
        ("method = 3", "method is 3"),
        ("training = 3", "training is 3"),
        ("[training", "not a TOML file"),
        (None, "no such file"),
    ],
)
def test_another_file_is_refused_by_name(text, said, tmp_path):
    path = tmp_path / "x.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError) as refused:
        read_toml(path)
    assert str(path) in str(refused.value)
    assert said in str(refused.value)


def test_only_settings_that_do_not_affect_weights_may_change_on_resume():
    fields = TrainingConfig.__dataclass_fields__
    assert set(fields) > MAY_CHANGE
    assert not MAY_CHANGE & {"seed", "lr", "batch_size", "betas", "ema", "warmup", "lr_schedule", "clip_norm"}
