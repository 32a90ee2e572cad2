"""Label sets: AMOS22 by heart, TotalSegmentator by name, anyone's from JSON."""

import json

import pytest

from ctsynth.errors import DataError, UsageError
from ctsynth.label_class import LabelClass
from ctsynth.label_files import dataset_label_set, dataset_names, find_dataset_json, label_names, label_set
from ctsynth.labels import AMOS22, BODY, LabelSet, key

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
    found = AMOS22.relabel(TOTAL.spellings, "total")
    total = {organ.name: organ.id for organ in TOTAL.classes}
    for organ in AMOS22.classes:
        assert found.ids[total[organ.name]] == organ.id
    assert (total["esophagus"], found.ids.get(15)) == (15, 5)  # id 15 is AMOS22's prostate
    assert (total["aorta"], found.ids[52]) == (52, 8)
    assert sorted(set(found.ids.values())) == list(range(17))


def test_labels_without_a_partner_are_reported_and_background_stays():
    found = AMOS22.relabel(TOTAL.spellings, "total")
    number = {organ.name: organ.id for organ in TOTAL.classes}
    assert found.unmatched[number["vertebrae_L1"]] == "vertebrae_L1"
    assert found.ids[0] == 0
    assert found.ids[TOTAL.body_id] == 16
    assert len(found.ids) + len(found.unmatched) == len(TOTAL.classes) + 2
    voxels = {0: 9, number["liver"]: 8, number["colon"]: 5, number["sternum"]: 7}
    assert list(found.lost(voxels).items()) == [("sternum", 7), ("colon", 5)]


def test_every_organ_has_a_partner_in_totalsegmentator():
    assert {organ.dice for organ in AMOS22.classes} <= set(TOTAL.names.values())


def named(*names):
    return {n: (name,) for n, name in enumerate(names, 1)}


@pytest.mark.parametrize("own", [AMOS22, TOTAL], ids=lambda labels: labels.name)
def test_the_names_of_amos22s_own_dataset_json_are_known(own):
    theirs = ("right kidney", "left kidney", "gall bladder", "arota", "postcava", "prostate/uterus", "bladder")
    ours = (
        "kidney_right",
        "kidney_left",
        "gallbladder",
        "aorta",
        "inferior_vena_cava",
        "prostate",
        "urinary_bladder",
    )
    found = own.relabel(named(*theirs), "dataset.json")
    assert [own.names[found.ids[n]] for n in range(1, 8)] == list(ours)
    assert found.unmatched == {}


@pytest.mark.parametrize(
    "name",
    ["Liver", "LIVER", " liver ", "li-ver"],
)
def test_case_spaces_underscores_and_hyphens_do_not_count(name):
    assert AMOS22.relabel({1: (name,)}, "header").ids == {0: 0, 1: 6}


def test_one_name_may_be_spelled_in_many_ways():
    ways = [
        "adrenal_gland_left",
        "Adrenal Gland Left",
        "adrenal-gland-left",
        "Left Adrenal Gland",
        "AdrenalGlandLeft",
    ]
    assert {key(way) for way in ways} == {"adrenalglandleft"}
    assert key("Prostate/Uterus") == key("prostate") != key("uterus")


def test_own_aliases_and_dice_partners_count_and_the_name_goes_first():
    own = LabelSet(
        "mine",
        (
            LabelClass(id=1, name="Leber", color="#000000", dice="liver"),
            LabelClass(id=2, name="Milz", color="#000000", aliases=("spleen",)),
            LabelClass(id=3, name="tumor", color="#000000", dice="stomach"),
            LabelClass(id=4, name="stomach", color="#000000", dice="stomach"),
        ),
    )
    assert own.relabel(named("spleen", "stomach", "liver"), "x").ids == {0: 0, 1: 2, 2: 4, 3: 1}
    given = {5: ("Leber", "liver"), 6: ("Milz", "spleen")}  # of a set with aliases
    assert AMOS22.relabel(given, "x").ids == {0: 0, 5: 6, 6: 1}


def test_a_set_with_no_common_name_is_refused_with_both_lists():
    with pytest.raises(DataError, match="brain: none of its names is one of amos22: putamen") as refused:
        AMOS22.relabel(named("putamen"), "brain")
    assert "spleen, kidney_right" in refused.value.hint


def test_an_ambiguous_name_is_refused_there_and_here():
    with pytest.raises(DataError, match=r"seg: 'Liver' \(1\) and 'liver' \(2\) are the same name"):
        AMOS22.relabel(named("Liver", "liver"), "seg")
    halves = tuple(LabelClass(id=n, name=f"liver_{n}", color="#000000", dice="liver") for n in (1, 2))
    with pytest.raises(DataError, match="'liver' could be liver_1 or liver_2 of mine"):
        LabelSet("mine", halves).relabel(named("liver"), "seg")


def test_body_is_found_by_its_name_or_by_the_sets_own_number_where_all_numbers_are():
    assert AMOS22.relabel(named("Body", "liver"), "x").ids == {0: 0, 1: 16, 2: 6}
    assert AMOS22.relabel(named("spleen", "right kidney", "left kidney"), "x").ids == {
        0: 0,
        1: 1,
        2: 2,
        3: 3,
        16: 16,
    }
    assert 16 not in AMOS22.relabel(named("liver", "spleen"), "x").ids
    assert 16 not in AMOS22.relabel({1: ("spleen",), 16: ("tumor",)}, "x").ids


@pytest.mark.parametrize("labels", [AMOS22, TOTAL], ids=lambda labels: labels.name)
def test_json_and_back_is_the_same_set_and_colors_differ(labels):
    assert LabelSet.from_json(json.loads(json.dumps(labels.as_json()))) == labels
    assert len(set(AMOS22.colors.values())) == AMOS22.body_id


def test_a_user_file_needs_ids_and_names_only(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"name": "mine", "classes": [{"id": 3, "name": "liver"}, {"id": 1, "name": "cyst"}]}')
    mine = label_set(str(path))
    assert mine.names == {1: "cyst", 3: "liver", 4: BODY}
    assert mine.num_classes == 5
    assert mine.classes[1].dice == "liver"
    assert mine.relabel(AMOS22.spellings, "amos22").ids[6] == 3
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
        ('{"name": "x", "classes": [{"id": 1, "name": "Liver"}, {"id": 2, "name": "liver"}]}', "the same name"),
        (
            '{"name": "x", "classes": [{"id": 1, "name": "body"}, {"id": 2, "name": "liver"}]}',
            "body is 1, wanted 3",
        ),
        ("[1, 2]", "it holds [1, 2], wanted an object"),
        ('{"name": "x", "classes": [{"id": 1, "name": "a", "dice": 5}]}', "classes[0].dice is 5"),
        ('{"name": "x", "classes": [{"id": 1, "name": "a", "aliases": "b"}]}', "classes[0].aliases is 'b'"),
        ('{"name": "x", "classes": [{"id": "1", "name": "a"}]}', "classes[0].id is '1', wanted a whole number"),
        ('{"name": "x", "classes": [{"id": Infinity, "name": "a"}]}', "Infinity is no finite number"),
        ('{"name": "x", "classes": [{"id": 1e999, "name": "a"}]}', "1e999 is no finite number"),
        ('{"name": "x", "classes": [{"id": 1.5, "name": "a"}]}', "classes[0].id is 1.5, wanted a whole number"),
        ('{"name": "x", "classes": [{"id": 1, "name": null}]}', "classes[0].name is None, wanted a string"),
        ('{"name": "x", "classes": [{"id": 1, "name": "a", "column": {}}]}', "classes[0].column is {}"),
        ('{"name": "x", "classes": [null]}', "classes[0] is None, wanted an object"),
        ('{"name": "x", "classes": {"liver": 1}}', "classes is {'liver': 1}, wanted a list"),
        ("{", "not a JSON file"),
    ],
)
def test_a_file_that_is_no_label_set_is_refused(content, said, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(DataError) as refused:
        label_set(str(path))
    assert said in str(refused.value)


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="'amos'") as refused:
        label_set("amos")
    assert "amos22, totalsegmentator" in refused.value.hint


def test_a_body_class_listed_last_in_a_file_is_the_label_sets_body(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"name": "mine", "classes": [{"id": 1, "name": "liver"}, {"id": 2, "name": "Body"}]}')
    mine = label_set(str(path))
    assert (mine.names, mine.body_id) == ({1: "liver", 2: BODY}, 2)


def test_a_set_as_an_older_version_wrote_it_is_read_as_it_was():
    old = {
        "name": "mine",
        "classes": [
            {"id": 1, "name": "Leber", "colour": "#c65fb5", "dice": "liver"},
            {"id": 2, "name": "body", "colour": "#c65fb5"},
        ],
    }
    read = LabelSet.from_json(old)
    assert read.names == {1: "Leber", 2: "body", 3: BODY}  # its masks hold both
    assert [organ.dice for organ in read.classes] == ["liver", "body"]
    assert LabelSet.from_json(json.loads(json.dumps(read.as_json()))) == read


def dataset_json(folder, labels, **more):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"labels": labels} | more))
    return folder / "dataset.json"


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "Liver": 1, "lesion": 3},
        {"background": "0", "Liver": "1", "lesion": "3"},
        {"0": "background", "1": "Liver", "3": "lesion"},
    ],
)
def test_both_forms_of_a_dataset_json_are_read(labels, tmp_path):
    path = dataset_json(tmp_path, labels)
    assert dataset_names(path) == {1: ("Liver",), 3: ("lesion",)}
    assert label_names(str(path)) == {1: ("Liver",), 3: ("lesion",)}
    made = label_set(str(path))
    assert made.names == {1: "Liver", 3: "lesion", 4: BODY}
    assert [organ.dice for organ in made.classes] == ["liver", None]
    assert LabelSet.from_json(json.loads(json.dumps(made.as_json()))) == made
    assert len(set(made.colors.values())) == 3


def test_a_set_from_a_dataset_json_has_its_name_and_its_own_body_last(tmp_path):
    path = dataset_json(tmp_path / "Dataset042_Mine", {"background": 0, "body": 1, "arota": 2})
    made = dataset_label_set(path)
    assert made.name == "Dataset042_Mine"
    assert made.names == {2: "arota", 3: BODY}
    assert made.classes[0].dice == "aorta"
    assert made.relabel(dataset_names(path), "x").ids == {0: 0, 1: 3, 2: 2}
    assert dataset_label_set(dataset_json(tmp_path, {"a": 1}, name="mine")).name == "mine"


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"background": 0, "whole": [1, 2], "core": 2}, r"'whole' is a region, of the labels \[1, 2\]"),
        ({"background": 0, "liver": 1, "Leber": 1}, "'liver' and 'Leber' are both 1"),
        ({"liver": 0, "spleen": 1}, "0 is 'liver', wanted background"),
        ({"background": 0, "liver": 1.5}, "'liver': 1.5 is neither"),
        ({"background": 0, "liver": True}, "'liver': True is neither"),
        ({"background": 0, "liver": None}, "'liver': None is neither"),
        ({"background": 0, "liver": -1}, "'liver': -1 is neither"),
        ({"background": 0, "liver": 1, "Liver": 2}, "the same name"),
        ({"background": 0, "liver": 255}, "within 1..254"),
        ({"background": 0}, "ids must be"),
    ],
)
def test_a_dataset_json_that_cannot_be_used_is_refused_with_its_path(labels, said, tmp_path):
    path = dataset_json(tmp_path, labels)
    with pytest.raises(DataError, match=said) as refused:
        dataset_label_set(path)
    assert str(path) in refused.value.message or tmp_path.name in refused.value.message


def test_a_dataset_json_is_searched_for_where_it_describes_the_labels(tmp_path, caplog):
    path = dataset_json(tmp_path / "set", {"background": 0, "liver": 1})
    for folder in ("labelsTr", "seg"):
        (tmp_path / "set" / folder).mkdir()
    assert find_dataset_json(tmp_path / "set") == path  # nnU-Net's predictions
    assert find_dataset_json(tmp_path / "set" / "labelsTr") == path
    assert find_dataset_json(tmp_path / "set" / "seg") is None
    assert find_dataset_json(tmp_path / "set" / "seg", tmp_path / "set") == path
    assert find_dataset_json(tmp_path / "elsewhere", tmp_path / "set") is None
    dataset_json(tmp_path / "set", None)
    assert find_dataset_json(tmp_path / "set") is None
    assert "names no labels" in caplog.text
