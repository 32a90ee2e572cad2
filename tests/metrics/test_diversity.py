import numpy as np
import pytest
from degraded_pairs import real_pairs

from ctsynth.data.slices import stack, stacked_geometry
from ctsynth.data.volume import Volume
from ctsynth.metrics.base import Context
from ctsynth.metrics.diversity import Diversity, _pairwise
from ctsynth.scoring.measuring import measured
from ctsynth.scoring.run import score
from ctsynth.segmentation.settings import Segmenting


def write_samples(folder, store, count=4, *, spread=0.0, mean_too=False):
    """Samples of each test mask: the real slices, as a whole lighter or darker by spread times a deviate."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for subject in store.subjects("test"):
        geometry = stacked_geometry(subject.geometry, store.size)
        for sample in range(count):
            off = spread * rng.standard_normal()
            changed = np.where(np.asarray(subject.ct()) > -100, np.asarray(subject.ct()) + off, subject.ct())
            hu = np.clip(changed, -160, 240).astype(np.int16)
            Volume(stack(hu), geometry).save(folder / f"{subject.name}_synthetic_{sample}.nii.gz")
        if mean_too:
            Volume(stack(hu), geometry).save(folder / f"{subject.name}_mean.nii.gz")
    return folder


def test_the_mean_squared_difference_of_two_is_that_of_all_pairs():
    samples = np.random.default_rng(0).random((4, 3, 10))
    pairs = [((samples[i] - samples[j]) ** 2).mean(axis=1) for i in range(4) for j in range(i)]
    np.testing.assert_allclose(_pairwise(samples), np.mean(pairs, axis=0))


def test_one_volume_again_and_again_has_no_diversity_and_more_spread_has_more(phantoms, tmp_path):
    found = {}
    for spread in (0, 10, 40):
        folder = write_samples(tmp_path / f"{spread}", phantoms, spread=spread)
        found[spread] = score(folder, phantoms, "test", metrics=["diversity"]).metrics["diversity"]
    assert found[0].total.value == 0
    assert 0 < found[10].total.value < found[40].total.value < 1
    assert found[40].notes == ("4 samples of each mask",)
    assert len(found[40].per_subject) == 3


def test_samples_as_different_as_patients_have_1(phantoms, tmp_path):
    """Four training subjects as the samples of a mask: of the very slices that it is compared with."""
    training, subject = phantoms.subjects("train"), phantoms.subjects("test")[0]
    geometry = stacked_geometry(subject.geometry, phantoms.size)
    folder = tmp_path / "samples"
    folder.mkdir()
    for sample, other in enumerate(training):
        Volume(stack(np.asarray(other.ct())), geometry).save(folder / f"{subject.name}_synthetic_{sample}.nii.gz")
    found = score(folder, phantoms, "test", metrics=["diversity"], partial=True)
    assert found.metrics["diversity"].total.value == pytest.approx(1, abs=1e-6)
    assert found.floor.values["diversity"].value == pytest.approx(1, abs=0.3)


def test_the_first_sample_is_scored_and_the_others_raise_no_warning(phantoms, tmp_path, caplog):
    folder = write_samples(tmp_path / "samples", phantoms, spread=20, mean_too=True)
    one = score(folder, phantoms, "test", metrics=["psnr"])
    assert all(path.name.endswith("_synthetic_0.nii.gz") for path in one.sources.synthetic.values())
    assert "has the name of" not in caplog.text


def test_a_sample_that_changes_is_measured_again(phantoms, tmp_path):
    folder = write_samples(tmp_path / "samples", phantoms, spread=10)
    before = score(folder, phantoms, "test", metrics=["diversity"]).metrics["diversity"].total.value
    name = phantoms.subjects("test")[0].name
    last = folder / f"{name}_synthetic_3.nii.gz"
    volume = Volume.load(last)
    Volume(np.full_like(volume.voxels, -160), volume.geometry).save(last)
    assert score(folder, phantoms, "test", metrics=["diversity"]).metrics["diversity"].total.value > before


def test_diversity_of_one_sample_per_mask_is_unavailable_with_the_remedy(phantoms, tmp_path):
    folder = write_samples(tmp_path / "samples", phantoms, count=1)
    files = {subject.name: folder / f"{subject.name}_synthetic_0.nii.gz" for subject in phantoms.subjects("test")}
    context = Context(store=phantoms, split="test", files=files, segmenting=Segmenting(), masks=tmp_path)
    assert "ctsynth sample --samples 4" in Diversity.make(context)


def test_a_subject_of_one_sample_is_left_out_and_counted(phantoms, tmp_path):
    folder = write_samples(tmp_path / "samples", phantoms, spread=10)
    name = phantoms.subjects("test")[0].name
    for sample in (1, 2, 3):
        (folder / f"{name}_synthetic_{sample}.nii.gz").unlink()
    found = score(folder, phantoms, "test", metrics=["diversity"]).metrics["diversity"]
    assert found.total.n == 2
    assert "1 of 3 subjects have one sample: left out" in found.notes


def test_a_pair_without_files_has_one_sample(phantoms):
    pair = real_pairs(phantoms)[0]
    assert measured(Diversity(phantoms, {}), pair)["samples"] == 1
