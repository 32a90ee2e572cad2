"""Arguments and options that scripts of others rely on: what is listed here does not vanish, and more may come."""

from importlib import import_module

import pytest
import typer.main

from ctsynth.cli.app import COMMANDS

FLAGS = {
    "preprocess": """
        SOURCE OUT --images --labels --label-set --unmatched --test-subjects --split --test-fraction
        --seed --size --level --width --workers --shard --overwrite --json
    """,
    "train": """
        --cond --method --preset --mask-encoding --prediction --schedule --label-dropout
        --tissue-dropout --ttur --no-ttur --vgg --set --config --data --out --size --resume
        --no-resume --overwrite --dry-run --iterations --epochs --batch-size --accumulate --lr --ema
        --seed --save-every --keep-every --sample-every --tensorboard --no-tensorboard --gpus
        --ranks --device --precision --compile --no-compile --checkpointing --no-checkpointing
    """,
    "sample": """
        --mask --data --split --model --out --format --samples --uncertainty --outside --labels
        --unmatched --body-from --tissues --no-tissues --preset --sampler --steps --guidance --eta
        --pix2pix-test --seed --noise --raw --overwrite --batch-size --device --precision --compile
        --shard
    """,
    "deform": """
        MASK --out --samples --strength --scale --shift --insert --seed --shard --overwrite
    """,
    "score": """
        SYNTHETIC --data --split --metrics --checkpoint --sweep --steps --preset --partial --segmenter --native
        --device --out --format --json --shard --overwrite
    """,
    "report": """
        INPUTS --out --blind --marks --viewer --overwrite
    """,
    "export": """
        MODEL OUT --scores --overwrite
    """,
    "train-segmenter": """
        DATA --out --resume --no-resume --overwrite --preset --set --iterations --batch-size --lr
        --ema --seed --save-every --keep-every --sample-every --tensorboard --no-tensorboard --gpus
        --ranks --device --precision
    """,
    "augment": """
        DATA --out --arms --generator --dry-run --export --fractions --draws --seeds --doses --iterations
        --generator-iterations --method --preset --steps --seed --device --shard --json --overwrite
    """,
    "weights": """
        ACTION WHAT --json
    """,
    "slurm": """
        EXTRA --methods --data --runs --gpus --cpus --time --partition --account
    """,
    "demo": """
        OUT --cond --iterations --seed --device --overwrite
    """,
    "phantom": """
        OUT --subjects --test-subjects --size --slices --seed --workers --overwrite --json
    """,
    "info": """
        --size --json
    """,
}


def words(name):
    """The names of a command's arguments, in capitals and in their order, and of its options."""
    alone = typer.Typer(add_completion=False)
    alone.command()(import_module(f"ctsynth.cli.{name.replace('-', '_')}").command)
    for parameter in typer.main.get_command(alone).params:
        if parameter.param_type_name == "argument":
            yield parameter.name.upper()
        else:
            yield from (word for word in (*parameter.opts, *parameter.secondary_opts) if word.startswith("-"))


@pytest.mark.parametrize("command", FLAGS)
def test_no_flag_vanishes(command):
    frozen, there = FLAGS[command].split(), list(words(command))
    assert not set(frozen) - set(there)
    assert [word for word in there if word.isupper()] == [word for word in frozen if word.isupper()]


def test_no_command_vanishes():
    assert not set(FLAGS) - set(COMMANDS)
