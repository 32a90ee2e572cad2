"""The benchmark of a GPU, as far as it needs none: what it works out, what it says, and what it refuses."""

from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from benchmarks import gpu, gpu_costs, gpu_page, gpu_sides, steps
from benchmarks.gpu_sides import Missing, Taken
from torch.autograd import DeviceType
from torch.utils._python_dispatch import TorchDispatchMode

from ctsynth.stop import Stop
from ctsynth.training.stepper import Stepper

ASKED = Namespace(size=256, batch_size=16)
RESULTS = {
    "train-peer": Taken("peer", 0.2, 16, peak=60_000_000_000, host=0.19),
    "train-fp32": Missing("train-fp32", "does not fit in the GPU's memory"),
    "train": Taken("bf16", 0.1, 16),
    "train-compiled": Taken("bf16 compiled", 0.0796, 16, compiling=61.0, peak=41_234_000_000),
    "sample-peer": Taken("peer, 1,000 evaluations", 800.0, 16),
    "sample-16": Taken("bf16, 20 evaluations", 8.1, 16),
    "sample-10": Taken("bf16, 10 evaluations", 4.1, 16),
    "sample-compiled": Taken("bf16 compiled, 20 evaluations", 7.9, 16),
}


def stepper(device):
    config = steps.config("ddpm-concat", 2, 16, channels=32, multipliers=(1, 2), res_blocks=1, attention=(8,))
    data = steps.Repeated(2, 16, device)
    return Stepper(config, data, device=device, precision="fp32")


def test_a_missing_gpu_is_reported_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--write"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("there is no CUDA device")


def test_a_trial_on_a_cpu_writes_no_page(capsys):
    with pytest.raises(SystemExit, match="2"):
        gpu.main(["--device", "cpu", "--write"])
    assert "must not stand on a GPU's page" in capsys.readouterr().err


def test_shares_and_ratios_are_of_the_limits_and_of_the_peer():
    sheet = gpu_page.training(RESULTS, 256)
    assert sheet.rows[0] == ("peer", "200", "190", "80", "0.20", "0.15", "60 GB", "", "")
    assert sheet.rows[2] == ("bf16 compiled", "79.6", "", "201", "0.50", "0.38", "41.2 GB", "61 s", "0.398")
    assert sheet.notes == ("Left out: train-fp32 (does not fit in the GPU's memory).",)
    sampled = gpu_page.sampling(RESULTS)
    assert [row[1] for row in sampled.rows] == ["50", "0.506", "0.256", "0.494"]
    assert [row[-1] for row in sampled.rows] == ["", "0.0101", "0.00512", "0.00988"]


def test_the_fastest_of_ours_is_judged_and_the_limit_on_its_own_device_only():
    bounds = gpu_page.to_hold(RESULTS, ASKED, "NVIDIA H200")
    assert [bound.value for bound in bounds] == pytest.approx([16 / 0.0796 / 402, 0.398, 7.9 / 800])
    assert all(bound.held for bound in bounds)
    slower = gpu_page.to_hold(RESULTS | {"train-compiled": Taken("", 0.081, 16)}, ASKED, "NVIDIA H200")
    assert [bound.held for bound in slower] == [False, False, True]
    assert len(gpu_page.to_hold(RESULTS, ASKED, "NVIDIA A100")) == 2
    alone = RESULTS | {"train-peer": Missing("train-peer", "there is no checkout")}
    assert [bound.wanted for bound in gpu_page.to_hold(alone, ASKED, "NVIDIA H200")] == [0.5, 0.01]


def test_rows_of_several_calls_make_one_page(tmp_path):
    file = tmp_path / "gpu.jsonl"
    costs = gpu_costs.Costs("bf16", [("aten::cat", 0.25)], 0.1, 2)
    gpu.append(file, "train", Taken("bf16", 0.2, 16), "a card of before")
    for row, taken in {**RESULTS, "costs": costs}.items():
        gpu.append(file, row, taken, "a card")
    found, places = gpu.read(file)
    assert places == ["a card"]
    assert {row: found[row] for row in RESULTS} == RESULTS
    (sheet,) = gpu_page.sheets(found, ASKED)[2:]
    assert [tuple(row) for row in sheet.rows] == [("aten::cat", "25.0 %", "25.00")]


def test_an_unknown_row_is_refused_with_the_rows_there_are(capsys):
    with pytest.raises(SystemExit, match="2"):
        gpu.main(["--only", "trian"])
    assert "no row is called trian; there are: train-peer, train," in capsys.readouterr().err


def test_a_kernel_counts_once_with_what_launched_it():
    def event(key, time_spent, kind=DeviceType.CPU, annotation=False):
        return SimpleNamespace(key=key, device_type=kind, is_user_annotation=annotation, spent=time_spent)

    events = [
        event("aten::convolution_backward", 60),
        event("triton_poi_fused_silu_0", 15),
        event("triton_red_fused_native_group_norm_1", 15),
        event("aten::cat", 10),
        event("aten::relu", 0),
        event("sm90_xmma_dgrad", 60, kind=DeviceType.CUDA),
        event("Optimizer.step#Adam.step", 40, annotation=True),
    ]
    shares = [("aten::convolution_backward", 0.6), (gpu_costs.TRITON, 0.3), ("aten::cat", 0.1)]
    assert gpu_costs.largest(events, "spent") == (shares, 100)
    assert gpu_costs.largest(events[4:5], "spent") == ([], 0)


def test_steps_that_skip_their_work_are_not_timed():
    done = iter([False, False, True] * 20)
    called = []
    asked = Namespace(device=torch.device("cpu"), repeats=2)
    gpu_sides.clock("", lambda: called.append(next(done)) or called[-1], asked, 16)
    assert called.count(True) == 1 + gpu_sides.WARM_UP + 2
    with pytest.raises(RuntimeError, match="did all its work"):
        gpu_sides.clock("", lambda: False, asked, 16)


def test_an_implementation_that_cannot_be_measured_is_named_and_the_others_are_measured(tmp_path):
    asked = Namespace(official=tmp_path, size=32, batch_size=2, device=torch.device("cpu"))
    without = gpu_sides.attempt("the peer", lambda: gpu_sides.peer_training(asked))
    assert not without.broken
    assert without.why == f"there is no {tmp_path / 'improved-diffusion'}"

    def fail(error):
        raise error

    assert not gpu_sides.attempt("too large", lambda: fail(torch.OutOfMemoryError("2 GiB"))).broken
    broken = gpu_sides.attempt("ours", lambda: fail(ValueError("odd\nand more")))
    assert broken == Missing("ours", "ValueError: odd", broken=True)


def test_a_training_step_reads_no_number_from_the_device(tmp_path):
    class Read(TorchDispatchMode):
        operations = ()

        def __torch_dispatch__(self, operation, types, arguments=(), options=None):
            self.operations = (*self.operations, operation)
            return operation(*arguments, **(options or {}))

    ours = stepper(torch.device("cpu"))
    with Read() as read:
        ours.advance(Stop())
    assert torch.ops.aten.convolution_backward.default in read.operations
    assert torch.ops.aten._local_scalar_dense.default not in read.operations
    with Read() as read:
        ours.terms.check(list)
    assert torch.ops.aten._local_scalar_dense.default in read.operations


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_training_step_never_waits_for_the_gpu(tmp_path):
    ours = stepper(torch.device("cuda"))
    ours.advance(Stop())
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours.advance(Stop())
    finally:
        torch.cuda.set_sync_debug_mode("default")
