import json

import numpy as np
import pytest
from small_stores import make_store, write_synthetic

from ctsynth import figures
from ctsynth.scoring.run import score


@pytest.fixture
def folder(tmp_path, small_case):
    store = make_store(tmp_path / "out", [small_case(seed) for seed in range(2)])
    run = tmp_path / "runs" / "mask"
    (run / "checkpoints").mkdir(parents=True)
    (run / "samples").mkdir()
    figures.sheet([[np.zeros((32, 32, 3), np.uint8)]], headers=("mask",)).save(
        run / "samples" / "step_000000100.png"
    )
    rows = [
        {"step": n, "loss": 1 / n, "mse": 0.9 / n, "lr": 1e-4, "images_per_s": 9.0} for n in range(10, 101, 10)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 110, "lo')
    (run / "config.json").write_text(json.dumps({"method": "ddpm-mask", "size": 32}))
    record = {"method": "ddpm-mask", "iterations": 100, "model": str(run / "checkpoints" / "step_000000100")}
    samples = write_synthetic(tmp_path / "samples", store, record=record)
    score(samples, store, "test").save(samples / "scores.json")
    return tmp_path
