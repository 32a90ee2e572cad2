import json

import pytest

from ctsynth.errors import DataError, UsageError
from ctsynth.labels import AMOS22, BODY, label_set


def test_amos22_has_15_organs_and_the_body_last():
    assert [organ.id for organ in AMOS22.classes] == list(range(1, 16))
    assert AMOS22.body_id == 16
    assert AMOS22.num_classes == 17
    assert AMOS22.names[16] == BODY


def test_the_papers_tables_have_14_organs():
    assert sum(organ.column is not None for organ in AMOS22.classes) == 14


def test_totalsegmentator_maps_by_name_and_never_by_id():
    total = label_set("totalsegmentator")
    mapping = AMOS22.mapping_from(total)
    ids = {organ.name: organ.id for organ in total.classes}
    for name, theirs, ours in (("liver", 5, 6), ("aorta", 52, 8), ("esophagus", 15, 5), ("prostate", 22, 15)):
        assert ids[name] == theirs
        assert mapping[theirs] == ours
    assert mapping[ids["vertebrae_L1"]] == AMOS22.body_id
    assert mapping[0] == 0
    assert set(mapping.values()) == set(range(17))


def test_a_set_survives_json():
    assert type(AMOS22).from_json(json.loads(json.dumps(AMOS22.as_json()))) == AMOS22


def test_a_users_set(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text('{"name": "mine", "classes": [{"id": 3, "name": "cyst"}, {"id": 1, "name": "liver"}]}')
    mine = label_set(str(file))
    assert (mine.body_id, mine.num_classes) == (4, 5)
    assert mine.mapping_from(AMOS22)[6] == 1


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ('{"classes": []}', "name"),
        ('{"name": "x", "classes": [{"id": 0, "name": "a"}]}', "1..254"),
        ('{"name": "x", "classes": [{"id": 1, "name": "a", "hue": 3}]}', "hue"),
        ('{"name": "x", "classes": [{"id": 1, "name": "a", "colour": "red"}]}', "red"),
        ("not json", "JSON"),
    ],
)
def test_what_is_no_label_set_is_refused(tmp_path, text, word):
    file = tmp_path / "mine.json"
    file.write_text(text)
    with pytest.raises(DataError, match=word):
        label_set(str(file))


def test_an_unknown_set_is_refused():
    with pytest.raises(UsageError, match="amos23"):
        label_set("amos23")
    with pytest.raises(DataError, match="no class by a name"):
        AMOS22.mapping_from(type(AMOS22).from_json({"name": "x", "classes": [{"id": 1, "name": "tumor"}]}))
