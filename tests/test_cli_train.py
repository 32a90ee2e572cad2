import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image
from small_runs import ctsynth, settings, weights
from small_stores import both_splits, make_store

from ctsynth.cli._training import find_place
from ctsynth.data.store import Store
from ctsynth.errors import UsageError
from ctsynth.training import checkpoint
from ctsynth.training.distributed import World
from ctsynth.training.stepper import Stepper

FILES = ("config.json", "ema.safetensors", "model.safetensors", "trainer.pt")


@pytest.fixture
def folder(tmp_path, small_case, monkeypatch):
    both_splits(tmp_path / "out", small_case)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_stdout_is_the_runs_folder_and_nothing_else(folder):
    done = ctsynth("train", *settings())
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "runs/ddpm-concat\n"
    assert "12 slices of 2 subjects -> runs/ddpm-concat" in done.stderr
    run = folder / "runs" / "ddpm-concat"
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    files = {f"checkpoints/step_00000000{n}/{name}" for n in (4, 6) for name in FILES}
    assert names == files | {"config.json", "latest", "loss.png", "metrics.jsonl", "samples/step_000000006.png"}
    for picture in ("loss.png", "samples/step_000000006.png"):
        Image.open(run / picture).load()
    quiet = ctsynth("--quiet", "train", *settings(), "--out", "runs/quiet")
    assert quiet.stderr == ""
    assert quiet.stdout == "runs/quiet\n"


def test_cond_is_short_for_the_method(folder):
    words = settings()[2:]
    done = ctsynth("train", "--cond", "edge", *words, "--set", "encoder_channels=8", "--iterations", 1)
    assert done.stdout == "runs/ddpm-edge\n", done.stderr
    refused = ctsynth("train", "--cond", "edge", "--method", "ddpm-mask")
    assert refused.exit_code == 2
    assert "--cond edge is --method ddpm-edge" in refused.stderr


def test_config_json_is_everything_resolved(folder):
    ctsynth("train", *settings(), "--seed", 5, "--mask-encoding", "index")
    content = json.loads((folder / "runs" / "ddpm-concat" / "config.json").read_text())
    assert (content["method"], content["size"], content["level"], content["width"]) == ("ddpm-concat", 16, 40, 400)
    assert content["options"] == {
        "channels": 8, "multipliers": [1, 2], "res_blocks": 1, "attention": [], "heads": 4, "dropout": 0.0,
        "patch": 2, "prediction": "epsilon", "schedule": "linear", "timesteps": 1000, "mask_encoding": "index",
        "head_channels": 0, "label_context": 0, "label_dropout": 0.0, "resblock_updown": False,
    }  # fmt: skip
    assert content["training"]["seed"] == 5
    assert content["training"]["precision"] == "fp32"
    assert content["training"]["ema"] == 0.9999
    assert content["phases"] == {"denoiser": {"lr": 0.001, "betas": [0.9, 0.999]}}
    assert content["labels"]["name"] == "amos22"
    assert (content["data"]["subjects"], content["data"]["slices"]) == (2, 12)


def test_the_papers_preset_is_the_papers(folder, monkeypatch):
    from ctsynth.config import RunConfig

    seen = []
    monkeypatch.setattr("ctsynth.training.run.train", lambda store, run, config, **_: seen.append(config))
    assert ctsynth("train", "--preset", "paper").exit_code == 0
    (config,) = seen
    assert isinstance(config, RunConfig)
    training, options = config.training, config.options
    assert (training.iterations, training.batch_size, training.ema) == (150_000, 16, 0.9999)
    assert (training.lr_schedule, training.warmup, training.clip_norm) == ("constant", 0, 0)
    assert (options["channels"], options["multipliers"], options["timesteps"]) == (128, (1, 1, 2, 2, 4, 4), 1000)
    assert (options["prediction"], options["schedule"]) == ("epsilon", "linear")
    assert config.method == "ddpm-mask"


def test_a_toml_file_is_read_and_the_command_line_wins(folder):
    (folder / "my.toml").write_text(
        'method = "ddpm-concat"\npreset = "tiny"\n[training]\niterations = 2\nbatch_size = 2\nlr = 1\n'
        "[options]\nchannels = 8\nmultipliers = [1, 2]\nattention = []\n"
    )
    done = ctsynth("train", "--config", "my.toml", "--batch-size", 3, "--set", "channels=12", "--out", "run")
    assert done.exit_code == 0, done.stderr
    content = json.loads((folder / "run" / "config.json").read_text())
    assert (content["training"]["batch_size"], content["training"]["lr"]) == (3, 1.0)
    assert content["options"]["channels"] == 12
    assert content["preset"] == "tiny"


BAD_TOML = [
    ("banana = 1", "unknown key 'banana'"),
    ("[training]\nbanana = 1", "unknown key 'training.banana'"),
    ("[options]\nbanana = 1", "unknown key 'options.banana'"),
    ("[training]\niterations = '9'", "iterations is '9', wanted a whole number"),
    ("[training]\nlr = true", "lr is True, wanted a finite number above 0"),
    ("[training]\nlr_schedule = 'step'", "lr_schedule is 'step', wanted one of constant, cosine"),
    ("[training]\nbetas = [0.9]", "betas is [0.9]"),
    ("[training]\nbetas = [0.9, 1.0]", "betas[1] is 1.0, wanted a finite number within [0, 1)"),
    ("[training]\nbetas = [-0.1, 0.9]", "betas[0] is -0.1, wanted a finite number within [0, 1)"),
    ("[training]\nlr = nan", "lr is nan, wanted a finite number above 0"),
    ("[training]\nclip_norm = inf", "clip_norm is inf, wanted a finite number of at least 0"),
    ("[options]\ndropout = nan", "dropout is nan, wanted a finite number within [0, 1)"),
    (f"[options]\nchannels = {10**9}", "channels is 1000000000, wanted a whole number within [1, 8,192]"),
    (f"a = {'[' * 100_000}", "not a TOML file"),
    ("training = 3", "training is 3, wanted a table"),
    ("options = [1]", "options is [1], wanted a table"),
    ("method = ['a']", "method is ['a'], wanted a string"),
    ("a = ", "not a TOML file"),
]


@pytest.mark.parametrize(("text", "message"), BAD_TOML)
def test_a_bad_toml_file_is_refused_and_named(folder, text, message):
    (folder / "my.toml").write_text(text)
    done = ctsynth("train", "--preset", "tiny", "--config", "my.toml")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: my.toml: ")
    assert message in done.stderr
    assert not (folder / "runs").exists()


REFUSED = [
    (["--gpus", "0"], "--gpus 0: at least 1"),
    (["--precision", "bf16"], "--precision bf16 on cpu"),
    (["--set", "banana=1"], "unknown key 'banana'"),
    (["--set", "encoder_channels=8"], "unknown key 'encoder_channels'"),
    (["--set", "channels=wide"], "channels is 'wide', wanted a whole number"),
    (["--set", "channels"], "--set 'channels': wanted KEY=VALUE"),
    (["--set", "channels=7"], "channels must divide by 4"),
    (["--set", "patch=3"], "16 x 16 do not suit this network: the side must divide by 6"),
    (["--data", "nowhere"], "nowhere: no slice store here"),
    (["--size", "256"], "--size 256: the slices of out are 16"),
    (["--method", "gan"], "no method is called 'gan'"),
    (["--preset", "huge"], "no preset 'huge'"),
    (["--config", "nowhere.toml"], "nowhere.toml: no such file"),
    (["--iterations", "0"], "--iterations is 0, wanted a whole number within [1, 999,999,999]"),
    (["--accumulate", "3"], "--accumulate (3) must divide --batch-size (4)"),
    (["--seed", "-1"], "--seed is -1, wanted a whole number within [0, "),
    (["--lr", "0"], "--lr is 0.0, wanted a finite number above 0"),
    (["--ema", "1"], "--ema is 1.0, wanted a finite number within [0, 1)"),
    (["--ranks", "100000"], "--batch-size (4) must divide by --accumulate (1) times the ranks (100000)"),
    (["--batch-size", str(10**12)], "--batch-size is 1000000000000, wanted a whole number within [1, 65,536]"),
    (["--lr", "nan"], "lr is nan, wanted a finite number above 0"),
    (["--label-dropout", "nan"], "label_dropout is nan, wanted a finite number within [0, 1)"),
    (["--set", f"channels={'[' * 100_000}"], "channels is '[["),
]


@pytest.mark.parametrize(
    ("words", "message"), REFUSED, ids=lambda value: value if isinstance(value, str) else None
)
def test_invalid_arguments_are_refused_before_anything_is_written(folder, words, message):
    done = ctsynth("train", *settings(), *words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (folder / "runs").exists()


def test_no_store_says_what_to_run(folder):
    assert "ctsynth preprocess amos/ nowhere" in ctsynth("train", "--data", "nowhere").stderr


@pytest.mark.parametrize("there", [0, 2])
def test_more_gpus_than_exist_are_refused_with_their_number(folder, monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    for wanted in {1, 4} if not there else {4}:
        done = ctsynth("train", "--cond", "mask", "--gpus", wanted)
        assert done.exit_code == 2
        found = f"there are {there}" if there else "there is none"
        assert f"--gpus {wanted}: {found} on this machine" in done.stderr
    assert not (folder / "runs").exists()


def test_a_task_of_srun_may_see_its_own_gpu_alone(monkeypatch):
    monkeypatch.setattr("ctsynth.device.find_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr("ctsynth.training.distributed.find_world", lambda: World(2, 4, 2))
    for there, number in ((1, 0), (4, 2)):  # with --gpus-per-task=1, and with the node's
        monkeypatch.setattr(torch.cuda, "device_count", lambda there=there: there)
        assert find_place("cuda", None, None).device == torch.device("cuda", number)
    monkeypatch.setenv("RANK", "2")  # torchrun, whose workers see all
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="`gpus` 3: there is 1"):
        find_place("cuda", None, None)


SHARES = {
    "said": (["--batch-size", 16], False),
    "in a file": (["--config", "batch.toml"], False),
    "the preset's": (["--preset", "paper"], True),
}


@pytest.mark.parametrize("launcher", ["srun", "--ranks"])
@pytest.mark.parametrize("case", SHARES)
def test_a_batch_size_that_ranks_cannot_split_is_refused_once_before_training(folder, monkeypatch, case, launcher):
    more, needs_torch = SHARES[case]
    (folder / "batch.toml").write_text("training.batch_size = 16\n")
    words = ["train", "--device", "cpu", "--out", "run", *more]
    monkeypatch.setattr("ctsynth.training.launch.launch", lambda *_: pytest.fail("the ranks have begun"))
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *_, **__: pytest.fail("they wait"))
    if not needs_torch:
        monkeypatch.setattr(Store, "open", lambda _: pytest.fail("it has gone on"))
    if launcher == "--ranks":
        done = [ctsynth(*words, "--ranks", 32)]
    else:
        for name, value in {"SLURM_STEP_ID": 0, "SLURM_NTASKS": 32, "SLURM_LOCALID": 1}.items():
            monkeypatch.setenv(name, str(value))
        done = []
        for rank in (0, 31):
            monkeypatch.setenv("SLURM_PROCID", str(rank))
            done.append(ctsynth(*words))
    assert {one.exit_code for one in done} == {2}
    message = "error: --batch-size (16) must divide by --accumulate (1) times the ranks (32)\n"
    assert [one.stderr for one in done] == [message, ""][: len(done)]
    assert not (folder / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_refused(folder):
    done = ctsynth("train", *settings(), "--device", "cuda")
    assert done.exit_code == 2
    assert "--device cuda: torch" in done.stderr


def test_an_existing_run_is_continued_refused_or_replaced(folder):
    ctsynth("train", *settings(iterations=2))
    assert "continuing runs/ddpm-concat at step 2" in ctsynth("train", *settings(iterations=4)).stderr
    refused = ctsynth("train", *settings(iterations=4), "--no-resume")
    assert refused.exit_code == 2
    assert "runs/ddpm-concat: a run is there already" in refused.stderr
    other = ctsynth("train", *settings(iterations=4), "--seed", 3)
    assert other.exit_code == 2
    assert "seed 0 there, 3 here" in other.stderr
    assert (
        ctsynth("train", *settings(iterations=4, **{"save-every": 4}), "--seed", 3, "--overwrite").exit_code == 0
    )
    run = folder / "runs" / "ddpm-concat"
    assert [path.name for path in checkpoint.saved(run)] == ["step_000000004"]
    assert json.loads((run / "config.json").read_text())["training"]["seed"] == 3


def test_overwrite_deletes_a_run_and_not_what_lies_beside_it(folder):
    ctsynth("train", *settings(), "--out", ".")
    (folder / "thesis.txt").write_text("years of work")
    assert ctsynth("train", *settings(), "--out", ".", "--overwrite", "--seed", 1).exit_code == 0
    assert (folder / "thesis.txt").read_text() == "years of work"
    assert (folder / "out" / "manifest.json").is_file()


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_overwrite_deletes_nothing_of_the_user_within_the_runs_own_folders(folder):
    ctsynth("train", *settings(), "--out", "run")
    theirs = [
        folder / "run" / place
        for place in (
            "checkpoints/step_000000004_best/model.safetensors",
            "samples/mine.png",
            "samples/step_1.png",
        )
    ]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_text("years of work")
    words = ["train", *settings(), "--out", "run", "--overwrite"]
    assert ctsynth(*words, "--seed", 1).exit_code == 0
    assert [path.read_text() for path in theirs] == ["years of work"] * 3
    (folder / "run" / "checkpoints" / "step_000000006" / "notes.txt").write_text("years of work")
    before = everything(folder)
    done = ctsynth(*words, "--seed", 2)
    assert done.exit_code == 2
    assert "step_000000006: holds what is not of a checkpoint" in done.stderr
    assert everything(folder) == before


THEIRS = ["config.json", "metrics.jsonl", "latest", "loss.png", "samples/step_000000001.png",
          "checkpoints/step_000000001/model.safetensors"]  # fmt: skip


@pytest.mark.parametrize("name", THEIRS)
def test_a_new_run_does_not_overwrite_a_users_files(folder, name):
    path = folder / "project" / name
    path.parent.mkdir(parents=True)
    path.write_text('{"architectures": ["BertModel"]}')
    before = everything(folder)
    for more in ([], ["--overwrite"], ["--no-resume"]):
        done = ctsynth("train", *settings(), "--out", "project", *more)
        assert done.exit_code == 2
        assert name.removesuffix("/model.safetensors") in done.stderr
    assert everything(folder) == before


def test_a_run_may_lie_beside_other_files_and_not_in_the_store_itself(folder):
    for name in ("samples/mine.png", "checkpoints/mine.ckpt", "config.toml"):
        (folder / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "project" / name).write_text("years of work")
    assert ctsynth("train", *settings(iterations=2), "--out", "project").exit_code == 0
    done = ctsynth("train", *settings(), "--out", "out")
    assert done.exit_code == 2
    assert "out: this is an input" in done.stderr


def test_a_checkpoint_of_another_method_is_not_continued(folder):
    ctsynth("train", *settings(), "--out", "run")
    done = ctsynth("train", *settings("ddpm-mask"), "--set", "encoder_channels=8", "--out", "run")
    assert done.exit_code == 2
    assert "method 'ddpm-concat' there, 'ddpm-mask' here" in done.stderr


def test_a_loss_that_is_not_finite_exits_with_1_and_two_lines(folder):
    done = ctsynth("train", *settings(lr="1e30", **{"save-every": 1}))
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert "not finite at step 2: stopped; the last good checkpoint is runs/ddpm-concat/checkpoints" in lines[-2]
    assert lines[-1].startswith(" hint: lower --lr")


def test_a_missing_test_split_is_warned_of(folder, small_case):
    assert "no test subjects" not in ctsynth("train", *settings(iterations=1)).stderr
    make_store(folder / "only", [small_case(0)], size=16, split="train")
    done = ctsynth("train", *settings(iterations=1), "--data", "only", "--out", "run")
    assert done.exit_code == 0
    assert "warning: only: no test subjects: sample sheets show training masks" in done.stderr


def test_a_run_with_more_steps_than_asked_for_says_so(folder):
    ctsynth("train", *settings())
    done = ctsynth("train", *settings(iterations=4))
    assert (done.exit_code, done.stdout) == (0, "runs/ddpm-concat\n")
    assert "runs/ddpm-concat is at step 6: nothing to do" in done.stderr
    assert "train: 4/4\n" in done.stderr
    assert "6/4" not in done.stderr


@pytest.fixture
def ctrl_c(monkeypatch):
    """Ctrl-C is pressed in the third step, as often as is said; returns whether it was."""
    optimize, pressed = Stepper._optimize, []

    def plant(times):
        def interrupted(stepper, stop):
            if stepper.step == 2 and not pressed:
                for _ in range(times):
                    pressed.append(None)
                    os.kill(os.getpid(), signal.SIGINT)
            return optimize(stepper, stop)

        monkeypatch.setattr(Stepper, "_optimize", interrupted)

    return plant


def test_ctrl_c_saves_and_exits_with_130(folder, ctrl_c):
    whole = ctsynth("train", *settings(), "--out", "whole")
    ctrl_c(1)
    words = ["train", *settings(**{"save-every": 100}), "--out", "run"]
    done = ctsynth(*words)
    assert done.exit_code == 130
    error, hint = done.stderr.splitlines()[-2:]
    assert re.fullmatch(r"error: SIGINT at step [23]: saved run", error)
    assert hint == " hint: the same command continues the run"
    assert (ctsynth(*words).exit_code, whole.exit_code) == (0, 0)
    assert weights(Path("run"), 6) == weights(Path("whole"), 6)


def test_a_second_ctrl_c_ends_at_once(folder, ctrl_c):
    ctrl_c(2)
    done = ctsynth("train", *settings(**{"save-every": 100}))
    assert done.exit_code == 130
    assert "Traceback" not in done.stderr
    assert not list(Path("runs").glob("*/checkpoints/*"))
