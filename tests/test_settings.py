"""What help and reference say of a setting is what its dataclass and the presets hold."""

import dataclasses
import re
import typing

import pytest

from ctsynth import plugins
from ctsynth.cli import train_segmenter
from ctsynth.cli.train import MethodOptions
from ctsynth.config import TrainingConfig
from ctsynth.schema import Help
from ctsynth.trainable import find_model

HINTS = typing.get_type_hints(TrainingConfig, include_extras=True)
WORDS = {name: next(part for part in hint.__metadata__ if isinstance(part, Help)) for name, hint in HINTS.items()}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(TrainingConfig)])
def test_every_training_setting_has_a_description(name):
    assert WORDS[name].text.endswith(".")


@pytest.mark.parametrize(
    ("method", "defaults"),
    [
        ("ddpm-mask", {name: words.default for name, words in WORDS.items()}),
        ("unet2d", train_segmenter.DEFAULTS),
    ],
)
def test_the_defaults_that_help_shows_are_those_of_the_presets(method, defaults):
    presets, told = find_model(method).presets, 0
    for name, text in defaults.items():
        own = next(field.default for field in dataclasses.fields(TrainingConfig) if field.name == name)
        for preset, number in re.findall(r"(?:^|; )(?:(small|tiny) )?([\d.]+)(?=;|$)", text):
            chosen = presets[preset or next(iter(presets))].training
            assert float(number) == chosen.get(name, own), (name, preset)
            told += 1
    assert told >= len(train_segmenter.DEFAULTS)


@pytest.mark.parametrize(("name", "kind"), typing.get_type_hints(MethodOptions).items())
def test_an_option_for_methods_is_a_setting_of_one(name, kind):
    options = [typing.get_type_hints(find_model(method).Options) for method in plugins.names("ctsynth.methods")]
    assert {hints[name] | None for hints in options if name in hints} == {kind}
