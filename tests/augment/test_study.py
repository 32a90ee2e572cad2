"""A study's runs: what is equal in all arms, and what a broken study becomes."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from small_runs import OPTIONS, weights
from small_stores import both_splits

from ctsynth.augment import records
from ctsynth.augment.carry_out import carry_out
from ctsynth.augment.copies import share_of_copies
from ctsynth.augment.page import write_page
from ctsynth.augment.tables import answer
from ctsynth.errors import Interrupted, RunError, UsageError
from ctsynth.files import sole
from ctsynth.training.stepper import Stepper

ARMS = ("R", "R+C", "R+Dr", "R+S", "R+D", "R+R'", "R+real")


@pytest.fixture(scope="module")
def whole(study_store, study_of, tmp_path_factory):
    """A study that nothing has broken."""
    study = study_of(study_store, tmp_path_factory.mktemp("whole") / "augment", arms=ARMS, fractions=(0.5, 1.0))
    study.begin()
    carry_out(study)
    return study


@pytest.fixture
def copied(whole, study_of, tmp_path):
    """The same study in another folder, to be broken."""
    shutil.copytree(whole.out, tmp_path / "augment")
    return study_of(whole.store, tmp_path / "augment", arms=ARMS, fractions=(0.5, 1.0))


def numbers(study):
    """What the study prints, and what it writes but for times."""
    results = study.results()
    return answer(results, 80), json.dumps(results.as_json() | {"hours": None})


def folder(study, arm, fraction=1.0):
    """That of an arm's run."""
    (run,) = (run for run in study.plan.runs if run.arm.name == arm and run.cell.fraction == fraction)
    return study.out / run.folder


def test_synthetic_replaced_by_real_is_the_real_arm(whole):
    last = whole.results().records[whole.plan.runs[0]]["work"]["steps"]
    for fraction in (0.5, 1.0):
        real, control = (records.load(folder(whole, arm, fraction)) for arm in ("R", "R+real"))
        assert real["weights_sha256"] == control["weights_sha256"]
        assert real["measured"] == control["measured"]
        chosen = {record["chosen"] for record in (real, control)}
        assert weights(folder(whole, "R", fraction), *chosen) == weights(
            folder(whole, "R+real", fraction), *chosen
        )
    assert last == 6


def test_class_means_and_shuffled_labels_hurt(study_store, study_of, tmp_path):
    study = study_of(
        study_store, tmp_path / "augment", arms=("R", "R+mean", "R+shuffled"), seeds=2, iterations=40,
        segmenter_options={"channels": 8, "multipliers": (1, 2)},
    )  # fmt: skip
    study.begin()
    carry_out(study)
    _, *controls = study.results().rows
    gains = {row.arm: row.gain.estimate for row in controls}  # measured: -16 and -18 points of 68
    assert gains["R+mean"] < -5
    assert gains["R+shuffled"] < -5


def test_the_record_of_a_deformed_subject_says_how(whole):
    folders = list((whole.out / "fraction-1/draw-0/deformed/train").iterdir())
    assert len(folders) == 3
    for folder in folders:
        found = json.loads((folder / "subject.json").read_text())["subject"]["deformation"]
        assert found["strength"] in (1.0, 0.5, 0.25)
        assert found["smallest_jacobian"] >= 0.3


def test_arms_differ(whole):
    found = {arm: records.load(folder(whole, arm, 0.5))["weights_sha256"] for arm in ARMS}
    assert len(set(found.values())) == len(ARMS) - 1


def test_planted_training_slices_are_copies_and_real_ones_are_none(study_store, whole):
    train, test = (study_store.subjects(split) for split in ("train", "test"))
    assert share_of_copies(train, train, test, study_store.window) == 100
    assert share_of_copies(test, train, test, study_store.window) < 100 / 12 + 1e-6  # at most one of 12 slices
    shares = whole.results().copies
    assert set(shares) == {"fraction-0.5/draw-0", "fraction-1/draw-0"}
    assert set(shares["fraction-1/draw-0"]) == {"synthetic", "synthetic_deformed"}


def test_all_arms_do_equal_work(whole):
    done = whole.results().records.values()
    assert {record["work"]["steps"] for record in done} == {6}
    assert len({json.dumps(record["work"], sort_keys=True) for record in done}) == 1


def test_unequal_work_is_an_error(copied):
    run = folder(copied, "R+C")
    content = json.loads((run / records.NAME).read_text())
    content["work"]["steps"] = 20
    records.save(run, {key: value for key, value in content.items() if key not in ("schema", "version", "sha256")})
    with pytest.raises(RunError, match=r"fraction-1/draw-0/R\+C/seed-0: its steps is 20; it is 6 in "):
        copied.results()


def test_a_checkpoint_is_chosen_by_the_validation_subjects(whole):
    for run, record in whole.results().records.items():
        assert set(record["validation"]) == {"2", "4", "6"}
        best = max(record["validation"].values())
        assert record["validation"][str(record["chosen"])] == best
        kept = [path.name for path in (whole.out / run.folder / "checkpoints").iterdir()]
        assert kept == [f"step_{record['chosen']:09d}"]


def test_a_broken_study_is_taken_up_again(whole, copied):
    shutil.rmtree(folder(copied, "R+D"))  # one arm is gone, with what it was trained on
    shutil.rmtree(copied.out / "fraction-1/draw-0/synthetic_deformed")
    (folder(copied, "R+S") / records.NAME).unlink()  # one was killed before its record was written
    described = next(copied.out.glob("fraction-1/draw-0/deformed/train/*/subject.json"))
    described.write_text(described.read_text().replace('"voxels": {', '"voxels": {"liver": 1,'))
    damaged = folder(copied, "R") / records.NAME
    damaged.write_text(damaged.read_text().replace('"dice"', '"dlce"'))
    untouched = folder(copied, "R+Dr") / records.NAME
    before = untouched.stat().st_mtime_ns
    assert len(copied.missing()) == 3
    copied.begin()
    carry_out(copied)
    assert numbers(copied) == numbers(whole)
    assert untouched.stat().st_mtime_ns == before


IMPOSSIBLE = {
    "subject": lambda content: content["measured"]["dice"].popitem(),
    "organ": lambda content: content["measured"]["nsd"]["amos_0004"].pop("liver"),
    "Dice": lambda content: content["measured"]["dice"]["amos_0004"].update(liver=1.5),
    "steps": lambda content: content["work"].update(steps="many"),
    "batch": lambda content: content["work"]["training"].pop("batch_size"),
    "seconds": lambda content: content.update(seconds=-1.0),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_an_impossible_record_is_none_even_with_its_hash(whole, tmp_path, monkeypatch, what):
    run = whole.plan.runs[0]
    content = json.loads((whole.out / run.folder / records.NAME).read_text())
    del content["sha256"]
    monkeypatch.setattr(whole, "out", tmp_path)
    (tmp_path / run.folder).mkdir(parents=True)
    records.save(tmp_path / run.folder, content)
    assert whole.record(run) is not None
    IMPOSSIBLE[what](content)
    records.save(tmp_path / run.folder, content)
    assert whole.record(run) is None


@pytest.mark.parametrize("kind", ["segmenter", "generator"])
def test_a_stopped_study_goes_on(whole, study_of, tmp_path, monkeypatch, kind):
    study = study_of(whole.store, tmp_path / "augment", arms=("R", "R+D"), fractions=(0.5,))
    study.begin()
    steps, advance = [], Stepper.advance

    def stop_at(stepper, stop):
        steps.append(stepper.config.method)
        is_due = steps.count("unet2d") == 3 if kind == "segmenter" else steps[-1] == "ddpm-concat"
        if is_due:
            stop.requested = signal.SIGTERM
        return advance(stepper, stop)

    monkeypatch.setattr(Stepper, "advance", stop_at)
    with pytest.raises(Interrupted, match=rf"SIGTERM at step {2 * (kind == 'segmenter')}: saved"):
        carry_out(study)
    monkeypatch.undo()
    again = study_of(whole.store, study.out, arms=("R", "R+D"), fractions=(0.5,))
    carry_out(again)
    for run in again.plan.runs:
        found, wanted = (records.load(place / run.folder) for place in (again.out, whole.out))
        assert {**found, "seconds": 0, "sha256": ""} == {**wanted, "seconds": 0, "sha256": ""}


def test_one_generator_of_all_subjects_is_trained_once(study_of, study_store, tmp_path):
    settings = {"arms": ("R", "S"), "fractions": (0.5, 1.0), "generator": "all"}
    study = study_of(study_store, tmp_path / "augment", **settings)
    study.begin()
    with pytest.raises(RunError, match="not trained yet; the first task trains it"):
        carry_out(study, "2/2")
    carry_out(study, "1/2")
    with sole(study.out / "generator" / ".train.lock"):  # as another task would hold it
        carry_out(study, "2/2")
    carry_out(study)
    assert len(study.results().copies) == 2
    trained = [path.relative_to(study.out).as_posix() for path in study.out.rglob("generator")]
    assert trained == ["generator"]
    config = json.loads((study.out / "generator" / "config.json").read_text())
    assert config["data"]["subjects"] == 4
    again = study_of(study_store, study.out, overwrite=True, **settings)
    carry_out(again)
    assert numbers(again) == numbers(study)
    other = study_of(study_store, study.out, **settings, iterations=7, generator_options=OPTIONS | {"channels": 4})
    with pytest.raises(UsageError, match="was trained with other settings: channels 8 there, 4 here"):
        carry_out(other, "2/2")


def test_tasks_of_an_array_begin_together(study_store, study_of, tmp_path, monkeypatch):
    study = study_of(study_store, tmp_path / "augment")
    study.out.mkdir()
    (study.out / ".partial-1-study.json").touch()  # another task is at the same place
    listed = Path.iterdir

    def begun_meanwhile(folder):
        monkeypatch.undo()
        study_of(study_store, study.out).begin()
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", begun_meanwhile)
    study.begin()
    study.begin()


def test_a_folder_keeps_one_study(copied, study_of, study_store, tmp_path):
    other = study_of(study_store, copied.out, iterations=12)
    with pytest.raises(UsageError, match="the study there was made with iterations 6, not 12"):
        other.begin()
    more = study_of(study_store, copied.out, arms=("R", "S"), seeds=2)
    more.begin()  # other runs of the same study
    assert len(more.missing()) == 3
    (copied.out / "study.json").write_text('{"mine": 1}')
    for study in (copied, study_of(study_store, copied.out, overwrite=True)):
        with pytest.raises(UsageError, match="not the record of a study"):
            study.begin()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="a folder with other things in it"):
        study_of(study_store, tmp_path / "mine").begin()


def test_the_page_has_tables_and_curves(copied):
    page = write_page(copied.results(), copied.out)
    text = page.read_text()
    assert text.count("<svg") == 1
    for words in ("R+D - R+Dr", "Learning curve", "real images deformed with their labels"):
        assert words.replace("&", "&amp;") in text
    assert {path.name for path in page.parent.glob("*.png")} == {"learning-curve.png"}
    assert (page.parent / "arms.csv").read_text().startswith("real,arm,Dice,gain")


def test_a_study_of_too_few_subjects(study_of, tmp_path, small_case):
    store = both_splits(tmp_path / "out", small_case)
    plan = study_of(store, tmp_path / "augment", arms=("R", "R+shuffled")).plan
    assert plan.left_out == ("R+shuffled at 100 %: it takes 2 subjects to exchange labels",)
