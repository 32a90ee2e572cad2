import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  its own abbreviation
import torch
from label_names import write_names
from small_cases import make_small_case
from small_runs import CPU, fit, labels_like
from small_stores import both_splits, make_store

from ctsynth.data import record as records
from ctsynth.data.volume import Volume
from ctsynth.diffusion.samplers import Sampler
from ctsynth.errors import DataError, Interrupted, RunError, UsageError
from ctsynth.label_files import label_set
from ctsynth.sampling import cases
from ctsynth.sampling.batches import SamplingConfig
from ctsynth.sampling.cases import cases_of_masks, cases_of_store
from ctsynth.sampling.record import is_whole, provenance
from ctsynth.sampling.settings import MaskSettings
from ctsynth.sampling.volumes import sample
from ctsynth.shards import take
from ctsynth.stop import Stop
from ctsynth.training import checkpoint

STEPS = Sampler(steps=4)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return both_splits(tmp_path_factory.mktemp("store") / "out", make_small_case)


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    run = fit(
        store,
        tmp_path_factory.mktemp("trained") / "run",
        lr=3e-2,
        ema=0.1,
        options={"prediction": "v", "schedule": "cosine"},
    )
    return checkpoint.load(checkpoint.find(run), CPU)


OF_MASKS = ("labels", "body_from", "unmatched")


def drawn(trained, mask, out=None, *, stop=None, overwrite=False, shard="1/1", **how):
    said = {name: value for name, value in how.items() if name in OF_MASKS}
    cases = take(cases_of_masks(mask, trained, out, MaskSettings(**said)), shard)
    sampling = SamplingConfig(**({"sampler": STEPS} | {name: how[name] for name in how.keys() - said.keys()}))
    return list(sample(trained, cases, sampling, stop=stop or Stop(), overwrite=overwrite))


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name.endswith(".nii.gz")}


@pytest.fixture
def mask(tmp_path, small_case, write_nifti):
    case = small_case(3)
    return write_nifti(tmp_path / "masks" / "seg.nii.gz", labels_like(case), case.affine)


def test_the_volume_is_on_the_masks_grid_in_hu_and_says_that_it_is_synthetic(trained, mask):
    (path,) = drawn(trained, mask)
    assert path == mask.with_name("seg_synthetic.nii.gz")
    image, before = nib.load(path), nib.load(mask)
    assert image.get_data_dtype() == np.int16
    assert image.shape == before.shape == (32, 24, 6)  # not square, and not the model's 16
    assert image.header.get_xyzt_units() == before.header.get_xyzt_units()
    assert "synthetic" in str(image.header["descrip"])
    hu = np.asarray(image.dataobj)
    assert hu.min() >= -160
    assert hu.max() <= 240
    assert hu.std() > 5
    assert len({hu[..., z].tobytes() for z in range(6)}) == 6


AXES = ["RAS", "LPS", "LAS", "SAR", "PIL", "ASR", "IRP"]


def test_axis_orders_and_flips_do_not_matter(trained, small_case, write_nifti, tmp_path):
    case = small_case(3)
    volumes = []
    for axes in AXES:
        path = write_nifti(tmp_path / axes / "seg.nii.gz", labels_like(case), case.affine, axes)
        (out,) = drawn(trained, path)
        image, before = nib.load(out), nib.load(path)
        np.testing.assert_allclose(image.affine, before.affine, atol=1e-5)
        assert nib.aff2axcodes(image.affine) == nib.aff2axcodes(before.affine)
        assert image.shape == before.shape
        volumes.append(Volume.load(out))
    for volume in volumes[1:]:
        assert np.array_equal(volume.voxels, volumes[0].voxels)
        np.testing.assert_allclose(volume.geometry.affine, volumes[0].geometry.affine, atol=1e-4)


def oblique(tmp_path, case):
    angle, tilt = 0.3, -0.2
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-12.0, -11.0, 5.0])
    affine[:3, 3] = [101.5, -33.25, 700.0]
    image = nib.Nifti1Image(labels_like(case)[::-1, ::-1], affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, 1)
    path = tmp_path / "oblique" / "seg.nii.gz"
    path.parent.mkdir()
    nib.save(image, path)
    return path


@pytest.mark.parametrize("kind", ["straight", "oblique"])
def test_other_programs_see_the_masks_geometry(trained, mask, tmp_path, small_case, kind):
    file = mask if kind == "straight" else oblique(tmp_path, small_case(3))
    (path,) = drawn(trained, file)
    ours, theirs = sitk.ReadImage(str(path)), sitk.ReadImage(str(file))
    assert ours.GetPixelID() == sitk.sitkInt16
    assert ours.GetSize() == theirs.GetSize()
    for ask in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(ours, ask)(), getattr(theirs, ask)(), atol=1e-5)
    np.testing.assert_allclose(nib.load(path).affine, nib.load(file).affine, atol=1e-5)
    if shutil.which("nifti_tool"):
        words = ["nifti_tool", "-check_hdr", "-check_nim", "-infiles", str(path)]
        told = subprocess.run(words, capture_output=True, text=True)
        assert told.returncode == 0
        assert (told.stdout + told.stderr).count("GOOD") == 2


def test_an_oblique_volume_is_that_of_the_same_voxels_straight(trained, tmp_path, small_case, write_nifti):
    case = small_case(3)
    straight = write_nifti(tmp_path / "straight" / "seg.nii.gz", labels_like(case), np.diag([12, 11, 5, 1.0]))
    volumes = [Volume.load(drawn(trained, file)[0]) for file in (straight, oblique(tmp_path, case))]
    assert np.array_equal(volumes[0].voxels, volumes[1].voxels)


def test_a_volume_does_not_depend_on_batch_size_shard_or_other_volumes(trained, tmp_path, small_case, write_nifti):
    for number in range(3):
        case = small_case(number)
        write_nifti(tmp_path / "masks" / f"m{number}.nii.gz", labels_like(case), case.affine)
    drawn(trained, tmp_path / "masks", tmp_path / "all")
    whole = content(tmp_path / "all")
    assert len(set(whole.values())) == 3
    for shard in ("1/2", "2/2"):
        drawn(trained, tmp_path / "masks", tmp_path / "sharded", shard=shard)
    assert content(tmp_path / "sharded") == whole
    drawn(trained, tmp_path / "masks" / "m1.nii.gz", tmp_path / "alone")
    assert content(tmp_path / "alone") == {"m1_synthetic.nii.gz": whole["m1_synthetic.nii.gz"]}
    for size in (1, 4, 5):
        (path,) = drawn(trained, tmp_path / "masks" / "m1.nii.gz", tmp_path / f"batch{size}", batch_size=size)
        hu = Volume.load(path).voxels.astype(int)
        assert abs(hu - Volume.load(tmp_path / "all" / "m1_synthetic.nii.gz").voxels).max() <= 1


@pytest.mark.parametrize("how", [{}, {"noise": "slice"}, {"sampler": Sampler(name="ddpm", steps=5)}])
def test_a_seed_is_a_volume(trained, mask, tmp_path, how):
    first, again, other = (
        Volume.load(drawn(trained, mask, tmp_path / name, seed=seed, **how)[0]).voxels
        for name, seed in [("first", 0), ("again", 0), ("other", 1)]
    )
    assert np.array_equal(first, again)
    assert np.mean(first != other) > 0.5


def test_volume_noise_makes_neighbors_agree(trained, mask, tmp_path):
    def difference(noise):
        (path,) = drawn(trained, mask, tmp_path / noise, noise=noise)
        hu = Volume.load(path).voxels.astype(float)
        return np.abs(np.diff(hu, axis=2)).mean()

    assert difference("volume") < 0.75 * difference("slice")  # slices are 5 mm apart: their noise correlates 0.92


def test_a_complete_volume_is_skipped_whatever_the_batch_size(trained, mask, monkeypatch):
    (path,) = drawn(trained, mask)
    first = path.stat().st_mtime_ns
    assert drawn(trained, mask) == [path]
    assert drawn(trained, mask, batch_size=2) == [path]  # changes rounding only
    for part in ("check_compiler", "compile_model"):
        monkeypatch.setattr(f"ctsynth.sampling.volumes.{part}", lambda *_: None)
    assert drawn(trained, mask, compile=True) == [path]  # and so does this
    assert path.stat().st_mtime_ns == first


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 3}, "seed 0, not 3"),
        (
            {"noise": "slice"},
            "noise volume, not slice; correlation_length_mm .*40.*, not none",
        ),
        ({"labels": "amos22"}, "mask_labels none, not amos22"),
        ({"precision": "bf16"}, "precision fp32, not bf16"),
        ({"sampler": Sampler(name="ddim", steps=4)}, r"sampler dpm\+\+, not ddim"),
        ({"sampler": Sampler(steps=5), "seed": 1}, "steps 4, not 5; seed 0, not 1"),
    ],
)
def test_a_volume_made_with_other_settings_is_kept_without_overwrite(trained, mask, change, told):
    (path,) = drawn(trained, mask)
    before = content(path.parent), path.with_name("seg_synthetic.json").read_bytes()
    with pytest.raises(UsageError, match=f"seg_synthetic.nii.gz: drawn with {told}") as error:
        drawn(trained, mask, **change)
    assert "`overwrite`" in error.value.hint
    assert (content(path.parent), path.with_name("seg_synthetic.json").read_bytes()) == before
    drawn(trained, mask, overwrite=True, **change)
    assert path.with_name("seg_synthetic.json").read_bytes() != before[1]


def test_a_volume_of_another_kind_of_device_is_another_draw(trained, mask):
    """torch's generators of a CPU and a GPU give other numbers for one seed; two GPUs give the same."""
    drawn(trained, mask)
    (case,) = cases_of_masks(mask, trained, None)

    def whole_for(device):
        sampling = SamplingConfig(sampler=STEPS, device=torch.device(device))
        return is_whole(case, provenance(trained, case, sampling))

    assert whole_for("cpu")
    with pytest.raises(UsageError, match="device cpu, not cuda"):
        whole_for("cuda")
    record = case.out.with_name("seg_synthetic.json")
    record.write_text(record.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    assert whole_for("cuda:1")
    record.write_text(
        record.read_text().replace('"device": "cuda"', '"device": "cuda:0"')
    )  # as early ones have it
    assert whole_for("cuda")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch has some about itself
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler for a CPU")
@pytest.mark.parametrize("method", ["ddpm-concat", "pix2pix"])
def test_a_compiled_network_draws_the_same_as_an_uncompiled_one(tmp_path, small_case, mask, method):
    diffuses = method == "ddpm-concat"
    options = {"multipliers": [1], "prediction": "v", "schedule": "cosine"} if diffuses else {}
    store = both_splits(tmp_path / "out", small_case, size=16 if diffuses else 32)
    found = checkpoint.find(fit(store, tmp_path / "run", method, options=options, lr=3e-2, ema=0.1))
    images = []

    def listened(self, labels, **how):
        images.append(generate(self, labels, **how))
        return images[-1]

    for how in (False, True):
        trained = checkpoint.load(found, CPU)
        generate = type(trained.method).generate
        trained.method.generate = listened.__get__(trained.method)
        (path,) = drawn(trained, mask, overwrite=True, compile=how, sampler=STEPS if diffuses else None)
        assert json.loads(path.with_name("seg_synthetic.json").read_text())["compile"] is how
    torch.testing.assert_close(images[1], images[0], rtol=0, atol=1e-4)
    assert images[0].std() > 0.01
    assert not torch.equal(*images)  # or nothing was compiled


def test_a_changed_mask_is_drawn_again(trained, mask, small_case, write_nifti):
    (path,) = drawn(trained, mask)
    before = path.read_bytes()
    case = small_case(3)
    write_nifti(mask, np.where(labels_like(case) == 6, 16, labels_like(case)), case.affine)
    drawn(trained, mask)
    assert path.read_bytes() != before


@pytest.mark.parametrize(("part", "calls"), [("write_json", 0), ("Volume.save", 0), ("write_json", 1)])
def test_a_volume_whose_writing_was_interrupted_is_drawn_again(trained, mask, monkeypatch, part, calls):
    """Wherever it was broken off, no record vouches for another volume, and the same command goes on."""
    (path,) = drawn(trained, mask)
    whole = path.read_bytes()
    drawn(trained, mask, seed=5, overwrite=True)
    real, left = getattr(records, part.split(".")[0]), calls

    def killed(*words):
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        return real(*words)

    with monkeypatch.context() as patch:
        patch.setattr(f"ctsynth.data.record.{part}", killed)
        with pytest.raises(KeyboardInterrupt):
            drawn(trained, mask, overwrite=True)
    is_untouched = (part, calls) == ("write_json", 0)
    drawn(trained, mask, overwrite=is_untouched)
    assert path.read_bytes() == whole


def test_the_record_tells_what_made_the_volume(trained, mask):
    (path,) = drawn(trained, mask, seed=4)
    record = json.loads(path.with_name("seg_synthetic.json").read_text())
    assert record["synthetic"] is True
    assert record["model"].endswith("run/checkpoints/step_000000006")
    assert record["method"] == "ddpm-concat"
    assert record["iterations"] == 6
    assert record["weights_sha256"] == checkpoint.sha256(checkpoint.find(trained.path) / "ema.safetensors")
    assert record["sampler"]["name"] == "dpm++"
    assert record["sampler"]["steps"] == 4
    assert record["seed"] == 4
    assert record["version"]
    assert record["mask"] == str(mask)
    assert record["body"] == "label"


def test_a_signal_breaks_a_volume_off_and_the_same_command_continues(
    trained, tmp_path, small_case, write_nifti, monkeypatch
):
    for number in range(3):
        case = small_case(number)
        write_nifti(tmp_path / "masks" / f"m{number}.nii.gz", labels_like(case), case.affine)
    drawn(trained, tmp_path / "masks", tmp_path / "whole", batch_size=6)
    generate, count = type(trained.method).generate, 0

    def signaled(self, *words, **more):
        nonlocal count
        count += 1
        if count == 2:
            os.kill(os.getpid(), signal.SIGUSR1)
        return generate(self, *words, **more)

    monkeypatch.setattr(type(trained.method), "generate", signaled)
    with pytest.raises(Interrupted, match="SIGUSR1: 1 of 3 volumes are whole"), Stop() as stop:
        drawn(trained, tmp_path / "masks", tmp_path / "broken", stop=stop, batch_size=6)
    assert sorted(path.name for path in (tmp_path / "broken").iterdir()) == [
        "m0_synthetic.json", "m0_synthetic.nii.gz"
    ]  # fmt: skip
    drawn(trained, tmp_path / "masks", tmp_path / "broken", batch_size=6)
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


def as_totalsegmentator(labels):
    own = {organ.name: organ.id for organ in label_set("totalsegmentator").classes}
    return np.select([labels == 6, labels == 1], [own["liver"], own["spleen"]], 0).astype(np.uint8)


@pytest.mark.parametrize("how", ["header", "named"])
def test_a_totalsegmentator_mask_draws_what_the_amos_mask_draws(
    trained, tmp_path, small_case, write_nifti, caplog, how
):
    case = small_case(3)
    amos = write_nifti(tmp_path / "amos" / "seg.nii.gz", case.labels, case.affine)
    theirs = write_nifti(tmp_path / "ts" / "seg.nii.gz", as_totalsegmentator(case.labels), case.affine)
    assert not np.array_equal(Volume.load(amos).voxels, Volume.load(theirs).voxels)
    if how == "header":
        classes = label_set("totalsegmentator").classes
        write_names(theirs, {organ.id: organ.name for organ in classes})
        (path,) = drawn(trained, theirs)
    else:
        (path,) = drawn(trained, theirs, labels="totalsegmentator")
    (expected,) = drawn(trained, amos)
    assert np.array_equal(Volume.load(path).voxels, Volume.load(expected).voxels)
    assert json.loads(path.with_name("seg_synthetic.json").read_text())["body"] == "estimated"
    assert "no body label" in caplog.text


def test_naming_the_labels_later_draws_another_volume(trained, tmp_path, small_case, write_nifti):
    case = small_case(3)
    theirs = write_nifti(tmp_path / "ts" / "seg.nii.gz", as_totalsegmentator(case.labels), case.affine)
    mistaken = Volume.load(drawn(trained, theirs)[0]).voxels
    meant = Volume.load(drawn(trained, theirs, labels="totalsegmentator", overwrite=True)[0]).voxels
    assert not np.array_equal(mistaken, meant)


def test_names_decide_what_is_drawn_and_the_record_keeps_those_of_a_dataset_json(
    trained, tmp_path, small_case, write_nifti
):
    case = small_case(3)
    permuted = np.select([case.labels == 6, case.labels == 1], [1, 2], 0).astype(np.uint8)
    amos = write_nifti(tmp_path / "amos" / "seg.nii.gz", case.labels, case.affine)
    expected = Volume.load(drawn(trained, amos)[0]).voxels
    header = write_nifti(tmp_path / "header" / "seg.nii.gz", permuted, case.affine)
    write_names(header, {1: "Liver", 2: "SPLEEN"})
    raw = write_nifti(tmp_path / "nnunet" / "labelsTr" / "seg.nii.gz", permuted, case.affine)
    (tmp_path / "nnunet" / "dataset.json").write_text('{"labels": {"background": 0, "Liver": 1, "spleen": 2}}')
    for file, names in ((amos, None), (header, None), (raw, {"Liver": 1, "spleen": 2})):
        (path,) = drawn(trained, file)
        assert np.array_equal(Volume.load(path).voxels, expected)
        record = json.loads(path.with_name("seg_synthetic.json").read_text())
        assert (record["mask_names"], record["unmatched"]) == (names, None)
    (tmp_path / "nnunet" / "dataset.json").write_text('{"labels": {"background": 0, "liver": 2, "spleen": 1}}')
    with pytest.raises(UsageError, match=r"drawn with mask_names .*Liver.*, not .*liver"):
        drawn(trained, raw)
    (path,) = drawn(trained, raw, overwrite=True)
    assert not np.array_equal(Volume.load(path).voxels, expected)  # drawn of other organs


def test_a_class_that_the_model_does_not_know_is_asked_about(trained, tmp_path, small_case, write_nifti, caplog):
    case = small_case(3)
    lesion = np.where(case.labels == 6, 9, case.labels).astype(np.uint8)
    file = write_nifti(tmp_path / "masks" / "seg.nii.gz", lesion, case.affine)
    write_names(file, {1: "spleen", 9: "tumor"})
    with pytest.raises(DataError, match=r"seg\.nii\.gz: amos22 has no class for tumor \(\d+ voxels\): .* %"):
        drawn(trained, file)
    assert [path.name for path in file.parent.iterdir()] == ["seg.nii.gz"]
    volumes = [drawn(trained, file, tmp_path / what, unmatched=what)[0] for what in ("body", "background")]
    assert not np.array_equal(*(Volume.load(path).voxels for path in volumes))
    assert "for tumor (312 voxels): now body" in caplog.text
    assert "for tumor (312 voxels): now background" in caplog.text


def test_a_store_of_another_label_set_is_refused_with_both_names(trained, store, tmp_path):
    other = replace(store, labels=label_set("totalsegmentator"))
    with pytest.raises(DataError, match=r"its label set is totalsegmentator, the model's is amos22"):
        cases_of_store(other, "test", trained, tmp_path / "drawn")


def test_a_body_can_come_from_the_ct(trained, tmp_path, small_case, write_nifti, caplog):
    case = small_case(3)
    file = write_nifti(tmp_path / "masks" / "seg.nii.gz", case.labels, case.affine, "LPS")
    ct = write_nifti(tmp_path / "ct.nii.gz", case.hu, case.affine)  # other axes, same grid
    (path,) = drawn(trained, file, body_from=ct)
    assert json.loads(path.with_name("seg_synthetic.json").read_text())["body"] == "ct"
    assert "no body label" not in caplog.text
    moved = case.affine.copy()
    moved[0, 3] += 0.002
    with pytest.raises(DataError, match=r"elsewhere\.nii\.gz: its grid is .*, that of .*seg\.nii\.gz is"):
        drawn(trained, file, body_from=write_nifti(tmp_path / "elsewhere.nii.gz", case.hu, moved), overwrite=True)
    with pytest.raises(DataError, match=r"seg\.nii\.gz: its values go from 0 to 6; in HU some would be below"):
        drawn(trained, file, body_from=file, overwrite=True)


def test_whole_numbers_in_floats_are_labels(trained, mask, tmp_path, small_case, write_nifti):
    case = small_case(3)
    floats = write_nifti(tmp_path / "floats" / "seg.nii.gz", labels_like(case).astype(np.float64), case.affine)
    assert np.array_equal(
        Volume.load(drawn(trained, floats)[0]).voxels, Volume.load(drawn(trained, mask)[0]).voxels
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (99, r"holds 99; amos22 has 0 to 16"),
        (-3, "not a label volume"),
        (2.5, "not a label volume"),
        (np.nan, "not a label volume"),
        (np.inf, "not a label volume"),
        (None, "nothing but background"),
    ],
)
def test_a_file_that_is_not_a_label_volume_is_refused_by_name_and_leaves_nothing(
    trained, tmp_path, small_case, write_nifti, value, message
):
    case = small_case(3)
    voxels = labels_like(case).astype(np.float32) * (value is not None)
    if value is not None:
        voxels[3, 4, 2] = value
    file = write_nifti(tmp_path / "masks" / "seg.nii.gz", voxels, case.affine)
    with pytest.raises(DataError, match=rf"seg\.nii\.gz: {message}"):
        drawn(trained, file)
    assert [path.name for path in file.parent.iterdir()] == ["seg.nii.gz"]


def test_names_of_another_anatomy_are_refused_with_the_file(trained, mask):
    write_names(mask, {1: "cerebellum", 2: "thalamus"})
    with pytest.raises(DataError, match=r"seg\.nii\.gz"):
        drawn(trained, mask)


def test_the_output_option_names_a_file_or_a_folder(trained, mask, tmp_path):
    assert drawn(trained, mask, tmp_path / "some.nii.gz") == [tmp_path / "some.nii.gz"]
    assert (tmp_path / "some.json").is_file()
    assert drawn(trained, mask, tmp_path / "some.nii") == [tmp_path / "some.nii"]
    assert nib.load(tmp_path / "some.nii").shape == (32, 24, 6)
    assert drawn(trained, mask, tmp_path / "folder") == [tmp_path / "folder" / "seg_synthetic.nii.gz"]
    drawn(trained, mask)
    assert drawn(trained, mask.parent) == [mask.with_name("seg_synthetic.nii.gz")]  # no mask itself
    shutil.copy(mask, mask.with_name("two.nii.gz"))
    for refused in ({"out": tmp_path / "one.nii.gz"}, {"body_from": mask}):
        with pytest.raises(UsageError, match="holds 2 masks"):
            drawn(trained, mask.parent, **refused)
    nib.save(nib.load(mask), mask.with_name("seg.nii"))
    with pytest.raises(UsageError, match="two masks with the same name"):
        drawn(trained, mask.parent)


def test_a_folder_without_masks_is_refused(trained, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: no label volumes"):
        drawn(trained, tmp_path / "empty")
    with pytest.raises(DataError, match=r"nowhere\.nii\.gz: no such file"):
        drawn(trained, tmp_path / "nowhere.nii.gz")


def test_a_store_is_drawn_on_the_grid_of_its_slices(trained, store, tmp_path):
    cases = cases_of_store(store, "test", trained, tmp_path / "drawn")
    (path,) = sample(trained, cases, SamplingConfig(sampler=STEPS), stop=Stop())
    volume = Volume.load(path)
    (subject,) = store.subjects("test")
    assert volume.voxels.shape == (16, 16, 6)
    assert volume.geometry.spacing == pytest.approx((24, 24, 5))
    center = np.append((np.array(subject.geometry.shape) - 1) / 2, 1)
    np.testing.assert_allclose(
        volume.geometry.affine @ [7.5, 7.5, 2.5, 1], subject.geometry.affine @ center, atol=1e-3
    )


def test_a_store_without_test_subjects_is_refused(trained, tmp_path, small_case):
    store = make_store(tmp_path / "only", [small_case(0)], size=16, split="train")
    with pytest.raises(DataError, match="only: no test subjects"):
        cases_of_store(store, "test", trained, tmp_path / "drawn")
    assert len(cases_of_store(store, "train", trained, tmp_path / "drawn")) == 1


def test_a_store_of_another_size_is_refused(trained, tmp_path, small_case):
    other = both_splits(tmp_path / "larger", small_case, size=32)
    with pytest.raises(DataError, match=r"slices have 32 pixels a side, the model's 16"):
        cases_of_store(other, "test", trained, tmp_path / "drawn")


@pytest.mark.parametrize("sampler", [Sampler(steps=1001), Sampler(name="ddpm", steps=2000)])
def test_more_steps_than_the_model_has_are_refused(trained, mask, sampler):
    with pytest.raises(UsageError, match="more than the 1000"):
        drawn(trained, mask, sampler=sampler)
    assert [path.name for path in mask.parent.iterdir()] == ["seg.nii.gz"]


def test_a_broken_mask_does_not_stop_the_others(trained, tmp_path, small_case, write_nifti):
    folder = tmp_path / "masks"
    for seed in (1, 3):
        write_nifti(folder / f"case{seed}.nii.gz", small_case(seed).labels, small_case(seed).affine)
    (folder / "case2.nii.gz").write_bytes(b"")
    with pytest.raises(RunError, match=r"1 of 3 masks.*\n.*case2\.nii\.gz: the file is empty"):
        drawn(trained, folder)
    assert sorted(path.name for path in folder.glob("*_synthetic.nii.gz")) == [
        "case1_synthetic.nii.gz",
        "case3_synthetic.nii.gz",
    ]


def folder_of_masks(folder, small_case, write_nifti):
    for seed in (1, 2, 3):
        write_nifti(folder / f"case{seed}.nii.gz", small_case(seed).labels, small_case(seed).affine)
    return folder


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(5, "Input/output error"), "Input/output error"),
        (MemoryError(), "not enough memory"),
        (ZeroDivisionError(), "this is a bug in ctsynth"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("where", ["cases.sha256", "cases.to_slices", "cases.from_slices"])
def test_no_error_of_one_mask_stops_the_others(where, error, said, trained, tmp_path, monkeypatch, request):
    folder = folder_of_masks(tmp_path / "masks", *map(request.getfixturevalue, ("small_case", "write_nifti")))
    if where == "cases.sha256" and not isinstance(error, OSError):
        return  # it reads a file and does nothing else
    done, calls = getattr(cases, where.removeprefix("cases.")), []

    def broken(*words, **more):
        calls.append(words)
        if len(calls) == 2:
            raise error
        return done(*words, **more)

    monkeypatch.setattr(f"ctsynth.sampling.{where}", broken)
    with pytest.raises(RunError, match=rf"1 of 3 masks.*\n.*case2\.nii\.gz: .*{said}"):
        drawn(trained, folder)
    there = sorted(path.name for path in folder.glob("*_synthetic.nii.gz"))
    assert there == ["case1_synthetic.nii.gz", "case3_synthetic.nii.gz"]


def test_a_mask_whose_name_is_too_long_for_that_of_a_volume_does_not_stop_the_others(
    trained, tmp_path, small_case, write_nifti
):
    folder = folder_of_masks(tmp_path / "masks", small_case, write_nifti)
    (folder / "case2.nii.gz").rename(folder / f"{'x' * 245}.nii.gz")
    with pytest.raises(RunError, match=r"1 of 3 masks.*\n.*the name of its output has 262 bytes") as refused:
        drawn(trained, folder)
    assert refused.value.hint == "name it shorter"
    assert len(list(folder.glob("*_synthetic.nii.gz"))) == 2
    assert drawn(trained, folder / f"{'x' * 245}.nii.gz", tmp_path / "short.nii.gz")
