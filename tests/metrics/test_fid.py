import shutil
import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from measured_metrics import MeasuredMetric
from PIL import Image
from scipy.ndimage import gaussian_filter
from small_stores import make_store, write_synthetic

from ctsynth import weights
from ctsynth.data.slices import stacked_geometry
from ctsynth.data.store import Store, write_manifest, write_subject
from ctsynth.errors import DataError
from ctsynth.features import frechet
from ctsynth.features.frechet import frechet_distance
from ctsynth.features.inception import Inception, absent, build, import_torchvision, to_gray
from ctsynth.files import sha256
from ctsynth.metrics import _inception, fid
from ctsynth.metrics._inception import OTHER_WEIGHTS
from ctsynth.metrics.base import Pair
from ctsynth.metrics.fid import FID
from ctsynth.scoring.records import Records
from ctsynth.scoring.run import score, scoring

needs_pytorch_fid = pytest.mark.skipif(bool(absent()), reason=absent())


@pytest.fixture(scope="session")
def random_weights():
    """Inception's tensors at random, of order 1 all the way."""
    import_torchvision()
    from torchvision.models import inception_v3

    net = inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
    rng = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=rng)
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.5, 1.5, generator=rng)
            for tensor in (module.running_mean, module.bias.data):
                tensor.normal_(0, 0.1, generator=rng)
    return net.state_dict()


def blurred(n, seed, shape=(40, 48)):
    slices = gaussian_filter(np.random.default_rng(seed).random((n, *shape)), (0, 2, 2))
    return ((slices - slices.min()) / np.ptp(slices)).astype(np.float32)


def write_png(folder, slices):
    folder.mkdir()
    paths = [folder / f"{number:03}.png" for number in range(len(slices))]
    for path, gray in zip(paths, to_gray(slices), strict=True):
        Image.fromarray(gray).save(path)
    return paths


def test_gray_levels_are_those_of_an_8_bit_picture():
    assert to_gray(np.array([-0.1, 0, 0.4, 0.5, 1, 1.2])).tolist() == [0, 0, 102, 128, 255, 255]


@needs_pytorch_fid
def test_features_are_those_that_pytorch_fid_finds_in_the_same_slices_as_png(tmp_path, random_weights):
    """Theirs normalizes batches as written; ours has the batch norms folded, and takes slices in other batches."""
    from pytorch_fid.fid_score import get_activations

    slices = blurred(3, 0)
    plain = build(random_weights)
    theirs = get_activations(write_png(tmp_path / "png", slices), plain, batch_size=2, num_workers=0)
    assert theirs.shape == (3, 2048)
    net = Inception(random_weights, "cpu")
    np.testing.assert_allclose(net(slices), theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
    assert net(slices[:0]).shape == (0, 2048)


@needs_pytorch_fid
def test_the_network_comes_from_the_given_tensors_alone_and_pytorch_fid_is_left_as_it_was(random_weights):
    from pytorch_fid import inception

    download = inception.load_state_dict_from_url
    with pytest.raises(RuntimeError, match="Conv2d_1a_3x3"):
        build({name: tensor for name, tensor in random_weights.items() if "Conv2d_1a" not in name})
    assert inception.load_state_dict_from_url is download


@needs_pytorch_fid
@pytest.mark.slow
@pytest.mark.parametrize("n", [4, 24])
def test_the_distance_is_that_of_pytorch_fid_on_png(n, tmp_path, random_weights):
    from pytorch_fid.fid_score import calculate_frechet_distance, compute_statistics_of_path

    real, synthetic = blurred(n, 0), np.clip(0.9 * blurred(n, 1) + 0.02, 0, 1)
    plain, net = build(random_weights), Inception(random_weights, "cpu")
    for name, slices in (("real", real), ("synthetic", synthetic)):
        write_png(tmp_path / name, slices)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [
            compute_statistics_of_path(str(tmp_path / name), plain, n, 2048, "cpu", 0)
            for name in ("real", "synthetic")
        ]
        theirs = calculate_frechet_distance(*found[0], *found[1])
    assert frechet_distance(net(real), net(synthetic)) == pytest.approx(theirs, rel=1e-3)


class Stub:
    """Stands for the network: fixed random pixels of a slice as its features, and a count of slices seen."""

    seen = 0

    def __init__(self, tensors):
        pass

    def __call__(self, slices):
        Stub.seen += len(slices)
        picked = np.random.default_rng(0).integers(0, slices[0].size, 2048)
        return np.ascontiguousarray(slices.reshape(len(slices), -1)[:, picked], np.float32)


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """A metric whose network is a stub, with a file of other weights."""
    torch.save({}, tmp_path / "other.pth")
    monkeypatch.setenv(OTHER_WEIGHTS, str(tmp_path / "other.pth"))
    monkeypatch.setattr(_inception, "Inception", Stub)
    monkeypatch.setattr(_inception, "absent", lambda: "")
    monkeypatch.setattr(_inception, "version", lambda package: "0")
    monkeypatch.setattr(Stub, "seen", 0)
    return FID


@pytest.fixture
def store(tmp_path, small_case):
    """Two subjects to score, two to train on."""
    made = make_store(tmp_path / "out", [small_case(seed) for seed in range(2)])
    names = [("test", name) for name in made.subjects_by_name]
    for number, subject in enumerate(made.subjects("test")):
        record = {"name": f"trained_{number}", "split": "train", "geometry": subject.geometry.as_json()}
        write_subject(made.root, record, made.settings, subject.ct()[:, ::-1], subject.mask()[:, ::-1])
        names.append(("train", record["name"]))
    write_manifest(made.root, made.settings, names)
    return Store.open(made.root)


def pairs(store, change=lambda unit: unit):
    for subject in store.subjects("test"):
        real = store.window.normalize(subject.ct())
        geometry = stacked_geometry(subject.geometry, store.size)
        yield Pair(subject.name, real, change(real), subject.mask(), store.labels, store.window, geometry)


def run(metric, store, change=lambda unit: unit):
    return MeasuredMetric(metric(store, "test"), *pairs(store, change))


def test_perfect_slices_have_no_distance(stub, store):
    found = run(stub, store).result()
    assert 0 <= found.total.value < 1e-9
    assert found.total.n == 12
    assert "12 slices, no more than its 2,048 features" in " ".join(found.notes)
    assert found.variants["kid"].total.n == 12
    assert "subsets of 6 slices" in found.variants["kid"].notes[0]


def test_with_other_weights_nothing_is_called_fid(stub, store):
    one = run(stub, store, lambda unit: 0.9 * unit)
    found = one.result()
    assert one.metric.key == "fd_smoke"
    assert found.total.value > 0
    assert "not those of FID" in found.notes[0]
    for each in (found, found.variants["kid"]):
        assert "FID" not in each.title
        assert "KID" not in each.title
        assert "other weights" in each.title


def test_with_the_fid_weights_the_metric_is_called_fid(stub, store, tmp_path, monkeypatch):
    known = replace(weights.TABLE["inception"], sha256=sha256(tmp_path / "other.pth"))
    monkeypatch.setitem(weights.TABLE, "inception", known)
    one = run(stub, store)
    assert one.metric.key == "fid"
    assert [one.result().title, one.result().variants["kid"].title] == ["FID", "KID"]
    assert not [note for note in one.result().notes if "weights" in note]


def test_features_of_real_slices_are_computed_once(stub, store):
    first = run(stub, store, lambda unit: unit**2).result()
    assert Stub.seen == 24
    again = run(stub, store, lambda unit: unit**2).result()
    assert Stub.seen == 36
    assert again == first
    assert len(list((store.root / "features").iterdir())) == 2


def test_cached_features_of_other_slices_weights_or_code_are_not_used(
    stub, store, tmp_path, small_case, monkeypatch, own_code
):
    run(stub, store)
    own_code("data/window.py")
    run(stub, store)
    assert Stub.seen == 48
    Stub.seen = 0
    torch.save({"other": torch.zeros(1)}, tmp_path / "more.pth")
    monkeypatch.setenv(OTHER_WEIGHTS, str(tmp_path / "more.pth"))
    run(stub, store)
    assert Stub.seen == 24
    run(stub, make_store(store.root, [small_case(seed) for seed in (1, 5)]))
    assert Stub.seen == 24 + 18  # subject_0 has the slices that subject_1 had


def test_incomplete_features_are_computed_again(stub, store):
    first = run(stub, store, lambda unit: unit**2).result()
    cut, damaged = (store.root / "features").iterdir()
    cut.write_bytes(b"")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert run(stub, store, lambda unit: unit**2).result() == first
    assert Stub.seen == 48


def test_a_read_only_store_is_scored(stub, store):
    (store.root / "features").write_text("a file where the folder should be")
    assert run(stub, store).result().total.value is not None


def test_the_floor_is_real_slices_against_real_slices(stub, store):
    one = run(stub, store, lambda unit: unit**2)
    floor = one.floor()
    real = [store.window.normalize(subject.ct()) for subject in store.subjects("test")]
    train = [store.window.normalize(subject.ct()) for subject in store.subjects("train")]
    wanted = frechet_distance(*(Stub({})(np.concatenate(each)) for each in (real, train)))
    assert floor.total.value == pytest.approx(wanted)
    assert floor.total.n == 12
    assert floor.variants["kid"].total.value is not None
    Stub.seen = 0
    assert one.floor().total == floor.total
    assert Stub.seen == 0


def test_shards_compute_all_features_floor_included_and_the_merge_none(stub, store, tmp_path):
    samples = write_synthetic(tmp_path / "samples", store)
    whole = score(samples, store, "test", metrics=["fid"])
    assert whole.floor.values
    for folder in (store.root / "features", samples / "measured"):
        shutil.rmtree(folder)
    for number in (1, 2):
        Stub.seen = 0
        with scoring(samples, store, "test", metrics=["fid"], shard=f"{number}/2") as work:
            work.measure()
        assert Stub.seen == 3 * 6  # synthetic, real, and of the other split
    Stub.seen = 0
    assert score(samples, store, "test", metrics=["fid"]) == whole
    assert Stub.seen == 0


def test_no_floor_without_other_slices_or_a_store(stub, store, tmp_path, small_case):
    assert run(stub, make_store(tmp_path / "alone", [small_case(0)])).floor() is None
    one = MeasuredMetric(stub(), *pairs(store))
    assert one.result().total.value < 1e-9
    assert one.floor() is None


def test_one_slice_gives_no_number(stub, store):
    pair = next(pairs(store))
    found = MeasuredMetric(stub(), replace(pair, real=pair.real[:1], synthetic=pair.synthetic[:1])).result()
    assert (found.total.value, found.variants["kid"].total.value) == (None, None)


def test_memory_does_not_grow_with_the_number_of_slices(stub, tmp_path, monkeypatch):
    """1,200 and 6,000 slices, both more than the 256 features here: 10 MB more if all were held."""
    for module, name, value in (
        (_inception, "DIMENSIONS", 256),
        (fid, "DIMENSIONS", 256),
        (frechet, "BLOCKS", 2),
        (frechet, "BLOCK_SIZE", 100),
        (frechet, "_ROWS", 500),
    ):
        monkeypatch.setattr(module, name, value)
    names = [f"subject_{number}" for number in range(60)]
    records = Records(tmp_path / "records", names)
    for number, name in enumerate(names):
        one, other = np.random.default_rng(number).random((2, 100, 256), np.float32)
        records.keep(name, "", {"real": one, "synthetic": other})

    def peak(count):
        tracemalloc.start()
        stub().result(Records(tmp_path / "records", names[:count]))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)
    assert peak(60) < peak(12) + 1e6


@needs_pytorch_fid
def test_weights_of_another_network_are_refused(tmp_path, store, monkeypatch):
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "vgg.pth")
    monkeypatch.setenv(OTHER_WEIGHTS, str(tmp_path / "vgg.pth"))
    with pytest.raises(DataError, match=r"vgg\.pth: no weights of pytorch-fid's Inception"):
        run(FID, store)


def test_a_missing_inception_is_reported_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.delenv(OTHER_WEIGHTS, raising=False)
    for name in ("CTSYNTH_WEIGHTS", "XDG_DATA_HOME", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(_inception, "absent", lambda: "")
    assert str(tmp_path) in FID.available()
    assert "ctsynth weights import" in FID.available()
    monkeypatch.setenv(OTHER_WEIGHTS, "nowhere.pth")
    assert FID.available() == "$CTSYNTH_FD_WEIGHTS is nowhere.pth: no such file"
    monkeypatch.undo()
    monkeypatch.setattr("ctsynth.features.inception.find_spec", lambda name: None)
    assert "pytorch-fid is not installed: pip install" in FID.available()
