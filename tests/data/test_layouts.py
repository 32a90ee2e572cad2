import json

import pytest

from ctsynth.data.layouts import discover
from ctsynth.data.settings import SplitRule
from ctsynth.errors import DataError, UsageError


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def amos(root, train, validation):
    for end, numbers in (("Tr", train), ("Va", validation)):
        for number in numbers:
            touch(root, f"images{end}/amos_{number:04}.nii.gz", f"labels{end}/amos_{number:04}.nii.gz")
    return root


def names(layout, split):
    return [case.name for case in layout.cases if case.split == split]


def test_amos22_trains_on_imagestr_and_tests_on_the_first_50_ct_of_imagesva_by_id(tmp_path):
    layout = discover(amos(tmp_path, range(1, 300), [*range(600, 620), *range(400, 300, -1)]))
    assert layout.name == "amos22"
    assert names(layout, "train") == [f"amos_{number:04}" for number in range(1, 300)]
    assert names(layout, "test") == [f"amos_{number:04}" for number in range(301, 351)]
    assert (layout.skipped_mr, layout.left_out) == (20, 50)


def test_ids_of_500_and_above_are_mr(tmp_path):
    layout = discover(amos(tmp_path, [499, 500, 507], []))
    assert names(layout, "train") == ["amos_0499"]
    assert layout.skipped_mr == 2


def test_the_real_ct_are_no_amos_ids_and_none_is_skipped(real_ct):
    layout = discover(real_ct)
    assert [(case.name, case.split) for case in layout.cases] == [
        ("ts_example_0001", "train"),
        ("ts_example_0002", "test"),
    ]
    assert layout.skipped_mr == 0


def test_nnunet_names_lose_their_channel(tmp_path):
    touch(
        tmp_path, "imagesTr/liver_003_0000.nii.gz", "labelsTr/liver_003.nii.gz", "imagesTs/liver_009_0000.nii.gz"
    )
    layout = discover(tmp_path)
    (case,) = layout.cases
    assert (layout.name, case.name, case.split) == ("nnunet", "liver_003", "train")
    assert case.label == tmp_path / "labelsTr" / "liver_003.nii.gz"


def test_a_second_channel_is_refused(tmp_path):
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    with pytest.raises(DataError, match=r"a_0001\.nii\.gz: channel 0001 of a"):
        discover(tmp_path)


def test_user_folders_pair_by_name_with_either_suffix(tmp_path):
    touch(
        tmp_path,
        "ct/x2.nii",
        "ct/x10.nii.gz",
        "seg/x2.nii.gz",
        "seg/x10.nii",
        "ct/.hidden.nii.gz",
        "ct/readme.txt",
    )
    layout = discover(tmp_path, images=tmp_path / "ct", labels=tmp_path / "seg")
    assert [(case.name, case.image.name, case.label.name) for case in layout.cases] == [
        ("x2", "x2.nii", "x2.nii.gz"),
        ("x10", "x10.nii.gz", "x10.nii"),
    ]


def test_a_fraction_is_drawn_by_subject_and_depends_on_the_seed_alone(tmp_path):
    amos(tmp_path, range(1, 21), range(101, 121))
    drawn = [discover(tmp_path, rule=SplitRule(test_fraction=0.25, seed=seed)) for seed in (0, 0, 1)]
    assert [len(names(layout, "test")) for layout in drawn] == [10, 10, 10]
    assert names(drawn[0], "test") == names(drawn[1], "test") != names(drawn[2], "test")
    assert sorted(names(drawn[0], "test") + names(drawn[0], "train")) == sorted(
        f"amos_{number:04}" for number in [*range(1, 21), *range(101, 121)]
    )


def split_file(root, content):
    path = root / "split.json"
    path.write_text(json.dumps(content))
    return SplitRule(split=path)


def test_a_split_file_assigns_subjects_and_leaves_out_those_it_does_not_name(tmp_path):
    amos(tmp_path, [1, 2, 3], [4])
    layout = discover(tmp_path, rule=split_file(tmp_path, {"test": ["amos_0002"], "train": ["amos_0004"]}))
    assert (names(layout, "train"), names(layout, "test"), layout.left_out) == (["amos_0004"], ["amos_0002"], 2)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"train": ["amos_0001"], "test": ["amos_0001"]}, "amos_0001 is in both"),
        ({"train": ["amos_0009"]}, "amos_0009 not among the 2 CT"),
        ({"training": ["amos_0001"]}, "not a split file"),
        ({"train": "amos_0001"}, "not a split file"),
        (["amos_0001"], "not a split file"),
    ],
)
def test_a_split_file_that_does_not_fit_is_refused(content, said, tmp_path):
    amos(tmp_path, [1, 2], [])
    with pytest.raises(DataError, match=said):
        discover(tmp_path, rule=split_file(tmp_path, content))


def test_a_subject_in_both_splits_is_refused(tmp_path):
    with pytest.raises(DataError, match="amos_0002 in both") as error:
        discover(amos(tmp_path, [1, 2], [2, 3]))
    assert "imagesTr" in error.value.message
    assert "imagesVa" in error.value.message


def test_a_subject_twice_in_a_folder_is_refused(tmp_path):
    touch(tmp_path, "imagesTr/a.nii", "imagesTr/a.nii.gz", "labelsTr/a.nii")
    with pytest.raises(DataError, match="a is there twice"):
        discover(tmp_path)


def test_a_source_folder_that_is_missing_or_empty_is_named(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        discover(tmp_path / "amos")
    with pytest.raises(DataError, match=r"no volumes found in imagesTr"):
        discover(tmp_path)
    with pytest.raises(DataError, match="ct: no such folder"):
        discover(tmp_path, images=tmp_path / "ct", labels=tmp_path / "seg")


def test_options_that_exclude_or_need_each_other(tmp_path):
    with pytest.raises(UsageError, match="belong together"):
        discover(tmp_path, images=tmp_path)
    with pytest.raises(UsageError, match="exclude"):
        SplitRule(split=tmp_path, test_fraction=0.5)
    with pytest.raises(UsageError, match="within"):
        SplitRule(test_fraction=1.5)


def test_only_ascii_digits_count_as_numbers_in_a_name(tmp_path):
    touch(tmp_path, "imagesTr/1²2.nii.gz", "imagesTr/a10.nii.gz", "imagesTr/a9.nii.gz", "imagesTr/a٣.nii.gz")
    assert names(discover(tmp_path), "train") == ["1²2", "a٣", "a9", "a10"]
