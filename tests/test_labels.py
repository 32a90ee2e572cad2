"""Label sets: AMOS22 by heart, TotalSegmentator by name, anyone's from JSON."""

import json

import pytest

from ctsynth.errors import DataError, UsageError
from ctsynth.labels import AMOS22, BODY, LabelClass, LabelSet, label_set

TOTAL = label_set("totalsegmentator")


def test_amos22_has_15_organs_and_the_body_after_them():
    assert [organ.id for organ in AMOS22.classes] == list(range(1, 16))
    assert AMOS22.body_id == 16
    assert AMOS22.num_classes == 17
    assert AMOS22.names[16] == BODY


def test_amos22_ids_are_those_of_its_dataset_json():
    for number, name in {1: "spleen", 2: "kidney_right", 6: "liver", 10: "pancreas", 15: "prostate"}.items():
        assert AMOS22.names[number] == name
    assert AMOS22.classes[8].aliases == ("postcava",)


def test_the_papers_tables_have_14_of_the_15_organs():
    assert [organ.name for organ in AMOS22.classes if organ.column is None] == ["prostate"]


def test_totalsegmentator_is_mapped_by_name_and_never_by_id():
    mapping = AMOS22.mapping_from(TOTAL)
    total = {organ.name: organ.id for organ in TOTAL.classes}
    for organ in AMOS22.classes:
        assert mapping[total[organ.name]] == organ.id
    assert (total["esophagus"], mapping[15]) == (15, 5)  # id 15 is AMOS22's prostate
    assert (total["aorta"], mapping[52]) == (52, 8)
    assert sorted(set(mapping.values())) == list(range(17))


def test_what_has_no_partner_becomes_body_and_background_stays():
    mapping = AMOS22.mapping_from(TOTAL)
    vertebra = next(organ.id for organ in TOTAL.classes if organ.name == "vertebrae_L1")
    assert mapping[vertebra] == 16
    assert mapping[0] == 0
    assert mapping[TOTAL.body_id] == 16
    assert len(mapping) == len(TOTAL.classes) + 2


def test_every_organ_has_a_partner_in_totalsegmentator():
    assert {organ.dice for organ in AMOS22.classes} <= set(TOTAL.names.values())


def test_the_names_of_amos22s_own_header_are_known():
    theirs = ("right kidney", "left kidney", "gall bladder", "arota", "postcava", "prostate/uterus")
    given = LabelSet(
        "header", tuple(LabelClass(id=n, name=name, color="#000000") for n, name in enumerate(theirs, 1))
    )
    assert [AMOS22.mapping_from(given)[n] for n in range(1, 7)] == [2, 3, 4, 8, 9, 15]


def test_a_set_with_no_common_name_is_refused():
    with pytest.raises(DataError, match="'brain' has no class by a name of 'amos22'"):
        AMOS22.mapping_from(LabelSet("brain", (LabelClass(id=1, name="putamen", color="#000000"),)))


@pytest.mark.parametrize("labels", [AMOS22, TOTAL], ids=lambda labels: labels.name)
def test_json_and_back_is_the_same_set_and_colors_differ(labels):
    assert LabelSet.from_json(json.loads(json.dumps(labels.as_json()))) == labels
    assert len(set(AMOS22.colors.values())) == AMOS22.body_id


def test_a_file_of_ones_own_needs_ids_and_names_only(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"name": "mine", "classes": [{"id": 3, "name": "liver"}, {"id": 1, "name": "cyst"}]}')
    mine = label_set(str(path))
    assert mine.names == {1: "cyst", 3: "liver", 4: BODY}
    assert mine.num_classes == 5
    assert mine.classes[1].dice == "liver"
    assert mine.mapping_from(AMOS22)[6] == 3
    assert len(set(mine.colors.values())) == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"name": "x", "classes": []}', "ids must be"),
        ('{"name": "x", "classes": [{"id": 0, "name": "a"}]}', "ids must be"),
        ('{"name": "x", "classes": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "ids must be"),
        ('{"name": "x", "classes": [{"id": 255, "name": "a"}]}', "ids must be"),
        ('{"name": "x", "classes": [{"id": 1}]}', "name"),
        ('{"name": "x", "classes": [{"id": 1, "name": "a", "colour": "red"}]}', "'red'"),
        ('{"name": "x", "classes": [{"id": 1, "name": "a", "weight": 2}]}', "'weight'"),
        ('{"classes": [{"id": 1, "name": "a"}]}', "name"),
        ("[1, 2]", "not a label set"),
        ("{", "not a JSON file"),
    ],
)
def test_a_file_that_is_no_label_set_is_refused(content, said, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(DataError) as refused:
        label_set(str(path))
    assert said in str(refused.value)


def test_unknown_names_are_told_with_those_there_are():
    with pytest.raises(UsageError, match="'amos'") as refused:
        label_set("amos")
    assert "amos22, totalsegmentator" in refused.value.hint
