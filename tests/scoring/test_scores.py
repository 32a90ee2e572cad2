import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from small_stores import make_store, write_synthetic

from ctsynth.errors import DataError, UsageError
from ctsynth.scoring.run import score
from ctsynth.scoring.scores import Scores

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "scores.schema.json").read_text())
KINDS = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}


def violations(content, schema, where="$"):
    """Where content breaks a schema, for the keywords that ours uses."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    fits = [content is None if kind == "null" else isinstance(content, KINDS[kind]) for kind in kinds]
    if kinds and not any(fits):
        return [f"{where} is {content!r}, not {kinds}"]
    found = []
    if "const" in schema and content != schema["const"]:
        found.append(f"{where} is not {schema['const']!r}")
    if "enum" in schema and content not in schema["enum"]:
        found.append(f"{where} is not one of {schema['enum']}")
    if "minimum" in schema and content < schema["minimum"]:
        found.append(f"{where} is below {schema['minimum']}")
    if isinstance(content, dict):
        known, other = schema.get("properties", {}), schema.get("additionalProperties", True)
        found += [f"{where}.{key} is missing" for key in schema.get("required", ()) if key not in content]
        for key, value in content.items():
            if key not in known and other is False:
                found.append(f"{where}.{key} is unknown")
            elif key in known or isinstance(other, dict):
                found += violations(value, known.get(key, other), f"{where}.{key}")
    if isinstance(content, list) and "items" in schema:
        found += [
            line for n, item in enumerate(content) for line in violations(item, schema["items"], f"{where}[{n}]")
        ]
    return found


@pytest.fixture
def saved(tmp_path, small_case):
    store = make_store(tmp_path / "out", [small_case(seed) for seed in range(2)])
    samples = write_synthetic(tmp_path / "samples", store, record={"method": "ddpm-mask", "iterations": 1000})
    score(samples, store, "test").save(samples / "scores.json")
    return samples / "scores.json"


def test_scores_json_follows_the_schema_in_docs(saved):
    assert violations(json.loads(saved.read_text()), SCHEMA) == []


def test_the_check_of_the_schema_sees_faults(saved):
    content = json.loads(saved.read_text())
    content["split"] = "val"
    content["metrics"]["psnr"]["total"]["value"] = "high"
    del content["metrics"]["ssim"]["notes"]
    content["more"] = 1
    assert len(violations(content, SCHEMA)) == 4


def test_reading_gives_back_what_was_written(saved):
    scores = Scores.load(saved)
    assert scores.as_json(saved.parent) == json.loads(saved.read_text())
    assert scores.metrics["psnr"].per_slice["subject_0"][0] == pytest.approx(
        scores.metrics["psnr"].per_subject["subject_0"], abs=5
    )


def test_scores_files_without_the_phantom_entry_are_read(saved):
    content = json.loads(saved.read_text())
    assert content.pop("phantom") is False
    saved.write_text(json.dumps(content))
    assert violations(content, SCHEMA) == []
    assert Scores.load(saved).phantom is False


def test_a_folder_that_moves_as_a_whole_keeps_its_pictures(saved, tmp_path):
    content = json.loads(saved.read_text())
    assert content["sources"]["store"] == "../out"
    assert content["sources"]["synthetic"]["subject_0"] == "subject_0.nii.gz"
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("out", "samples"):
        shutil.move(tmp_path / name, moved / name)
    scores = Scores.load(moved / "samples" / "scores.json")
    assert (scores.sources.store / "manifest.json").is_file()
    assert all(path.is_file() for path in scores.sources.synthetic.values())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("schema", 2, "schema 2, this version reads 1"),
        ("metrics", None, "metrics is missing"),
        ("metrics", [], "metrics is"),
        ("metrics", {"psnr": {"title": "PSNR"}}, "metrics.psnr: total is missing"),
        ("subjects", "three", "subjects is 'three'"),
        ("phantom", "yes", "phantom is 'yes'"),
        ("labels", {"name": "x"}, "classes is missing"),
        ("sources", {"store": "out"}, "sources.synthetic is missing"),
        ("floor", {"values": {"fid": {"value": "low"}}, "reason": ""}, "floor: values.fid.value is 'low'"),
        (
            "floor",
            {"values": {"fid": {"value": 1e300}}, "reason": ""},
            "values.fid.value is 1e.300, wanted",
        ),
        ("provenance", {"method": ["a"]}, r"provenance.method is \['a'\], wanted a string"),
        ("provenance", {"iterations": "many"}, "provenance.iterations is 'many', wanted a whole number"),
        ("provenance", {"iterations": -1}, "provenance.iterations is -1, wanted a whole number"),
        ("provenance", {"sampler": "dpm"}, "provenance.sampler is 'dpm', wanted an object"),
        ("provenance", {"sampler": {"name": "ddim"}}, "provenance.sampler.steps is missing"),
        ("provenance", {"sampler": {"name": "ddim", "steps": 3, "guidance": "1"}}, "sampler.guidance is '1'"),
        ("settings", {}, "settings.size is missing"),
        ("settings", {"size": "big"}, "settings.size is 'big'"),
        ("missing", [1], r"missing\[0\] is 1, wanted a string"),
        ("left_out", {"fid": 1}, "left_out.fid is 1, wanted a string"),
        ("versions", {"numpy": None}, "versions.numpy is None, wanted a string"),
        ("sources", {"store": "out\0", "synthetic": {}}, "sources.store is 'out"),
        ("sources", {"store": "out", "synthetic": {"a": "\ud800"}}, "not a JSON file"),
    ],
)
def test_a_file_of_another_form_is_refused_with_its_name(saved, key, value, message):
    content = json.loads(saved.read_text()) | {key: value}
    if value is None:
        del content[key]
    saved.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as error:
        Scores.load(saved)
    assert str(saved) in error.value.message


RESULT_EDITS = [
    ("digits", 99, "digits is 99, wanted a whole number within"),
    ("digits", 2.0, "digits is 2.0"),
    ("per_slice", {"subject_0": 1}, "per_slice.subject_0 is 1, wanted a list"),
    ("per_slice", {"subject_0": [True]}, r"per_slice.subject_0\[0\] is True"),
    ("per_subject", {"subject_0": "high"}, "per_subject.subject_0 is 'high'"),
    ("per_organ", {"liver": None}, "per_organ.liver is None, wanted an object"),
    ("notes", "none", "notes is 'none', wanted a list"),
    ("total", {"value": 1, "n": -1}, "total.n is -1"),
    ("title", 3, "title is 3, wanted a string"),
    ("weight", 3, "unknown key 'weight'"),
]


@pytest.mark.parametrize(("key", "value", "message"), RESULT_EDITS)
def test_a_result_of_another_form_is_refused_with_its_metric(saved, key, value, message):
    content = json.loads(saved.read_text())
    content["metrics"]["psnr"][key] = value
    saved.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"scores.json: metrics.psnr: {message}"):
        Scores.load(saved)


def test_malformed_scores_files_are_refused(tmp_path):
    for text in ("[]", "{", '{"schema": 1}', "null", "[" * 100_000, '{"schema": 1, "name": NaN}'):
        (tmp_path / "scores.json").write_text(text)
        with pytest.raises(DataError, match=r"scores\.json"):
            Scores.load(tmp_path / "scores.json")
    with pytest.raises(DataError, match="no such file"):
        Scores.load(tmp_path / "none.json")


def test_a_users_file_is_not_overwritten_by_scores(saved, tmp_path):
    scores = Scores.load(saved)
    theirs = {
        "volume.nii.gz": b"\x1f\x8b volume",
        "mine.json": b'{"schema": 1, "settings": {}}',
        "list.json": b"[]",
    }
    for name, content in theirs.items():
        (tmp_path / name).write_bytes(content)
        for overwrite in (False, True):
            with pytest.raises(UsageError, match=f"{name}: not overwritten: it is not a file of scores"):
                scores.save(tmp_path / name, overwrite=overwrite)
        assert (tmp_path / name).read_bytes() == content
    with pytest.raises(UsageError, match="not overwritten"):
        scores.save(tmp_path)


def without_psnr(scores):
    return replace(scores, metrics={name: one for name, one in scores.metrics.items() if name != "psnr"})


def of_other_settings(scores):
    psnr = replace(scores.metrics["psnr"], settings={"range": 2})
    return replace(scores, metrics={**scores.metrics, "psnr": psnr})


def of_other_volumes(scores):
    places = {name: path.parent / "elsewhere" / path.name for name, path in scores.sources.synthetic.items()}
    return replace(scores, sources=replace(scores.sources, synthetic=places))


def against_another_split(scores):
    return replace(scores, split="train")


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        (without_psnr, "holds psnr, which"),
        (of_other_settings, "holds psnr with .* None, not|holds psnr with .*, not"),
        (of_other_volumes, "holds scores of subject_0.nii.gz"),
        (against_another_split, "holds scores against .*, test"),
    ],
)
def test_scores_that_would_be_lost_are_kept_without_overwrite(saved, change, lost):
    scores, before = Scores.load(saved), saved.read_bytes()
    scores.save(saved)  # the same again
    with pytest.raises(UsageError, match=lost) as error:
        change(scores).save(saved)
    assert "`overwrite`" in error.value.hint
    assert saved.read_bytes() == before
    change(scores).save(saved, overwrite=True)
    if change is without_psnr:
        scores.save(saved)  # which has more
        assert saved.read_bytes() == before
