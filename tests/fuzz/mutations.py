"""A mutated file as a function of seed and index: each kind of file has mutations of its own."""

from __future__ import annotations

from random import Random

from .arrays import change_npy, change_npz, change_safetensors, change_trainer
from .nifti import change_nifti, change_packed
from .raw import change_dicom, damage
from .texts import change_json, change_jsonl, change_toml

_BY_SUFFIX = {
    ".nii.gz": change_packed,
    ".nii": change_nifti,
    ".npy": change_npy,
    ".npz": change_npz,
    ".safetensors": change_safetensors,
    ".pt": change_trainer,
    ".json": change_json,
    ".jsonl": change_jsonl,
    ".toml": change_toml,
    ".dcm": change_dicom,
}


def mutate(rng: Random, name: str, content: bytes) -> bytes:
    """The content of a file of this name, changed; it may come out as it was."""
    change = next((change for suffix, change in _BY_SUFFIX.items() if name.endswith(suffix)), damage)
    return change(rng, content)
