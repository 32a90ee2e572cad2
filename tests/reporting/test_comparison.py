from pathlib import Path

import pytest

from ctsynth.labels import AMOS22
from ctsynth.reporting import paper as papers
from ctsynth.reporting.comparison import NAMES, iteration_table, method_table, notes, reasons
from ctsynth.reporting.inputs import Entry
from ctsynth.reporting.plots import bars_of, organ_bars
from ctsynth.reporting.table import NOTHING
from ctsynth.reporting.tables import FROM_TISSUES, remarks, score_table
from ctsynth.scoring.scores import Reference, Result, Scores, Sources, Value

PAPER = papers.load()
NO_REFERENCE = Reference(values=None, reason="not computed")


def result(title, value, unit="", higher=True, digits=2, **more):
    return Result(title=title, total=Value(value=value, unit=unit), digits=digits, higher_is_better=higher, **more)


def dice(spleen, **settings):
    organs = {
        "spleen": Value(value=spleen, unit="%", low=spleen - 1, high=spleen + 1),
        "prostate": Value(value=1.0),
    }
    return result(
        "DSC", spleen, "%", digits=1, per_organ=organs, settings={"segmenter": "TotalSegmentator"} | settings
    )


def entry(
    method, iterations, *, sampler=None, size=256, floor=NO_REFERENCE, ceiling=NO_REFERENCE, left=None,
    phantom=False, tissues=None, **metrics,
):  # fmt: skip
    scores = Scores(
        name=method, split="test", subjects=50, slices=6559, missing=(), labels=AMOS22, metrics=metrics,
        left_out=left or {}, floor=floor, ceiling=ceiling,
        provenance={"method": method, "iterations": iterations, "sampler": sampler}
        | ({"label_set": "amos22+tissues", "tissues": tissues} if tissues else {}),
        settings={"size": size}, versions={}, sources=Sources(store=Path(), synthetic={}), phantom=phantom,
    )  # fmt: skip
    return Entry(f"{method}, {iterations:,} iterations", scores, None)


def rows(table):
    return [row[: len(NAMES)] for row in table.rows]


def cell(table, row, header):
    return table.rows[row][table.headers.index(header)]


def bold(table):
    return {(*table.rows[row][:3], table.headers[column]) for row, column in table.best}


def test_table_1_is_by_iterations_and_then_by_conditioner_as_in_the_paper():
    sampler = {"name": "dpm++", "steps": 20}
    given = [entry(m, n, sampler=sampler) for m in ("ddpm-edge", "ddpm-concat") for n in (150_000, 60_000)]
    ours, papers = ("ctsynth", "dpm++ 20"), ("paper", NOTHING)
    assert rows(iteration_table(given, PAPER)) == [
        ("Conditional DDPM", "50,000", *papers),
        ("Mask-guided DDPM", "50,000", *papers),
        ("Edge-guided DDPM", "50,000", *papers),
        ("Conditional DDPM", "60,000", *ours),
        ("Edge-guided DDPM", "60,000", *ours),
        ("Conditional DDPM", "100,000", *papers),
        ("Mask-guided DDPM", "100,000", *papers),
        ("Edge-guided DDPM", "100,000", *papers),
        ("Conditional DDPM", "150,000", *papers),
        ("Conditional DDPM", "150,000", *ours),
        ("Mask-guided DDPM", "150,000", *papers),
        ("Edge-guided DDPM", "150,000", *papers),
        ("Edge-guided DDPM", "150,000", *ours),
    ]


def test_table_1_takes_in_whatever_was_scored_at_several_checkpoints():
    given = [entry("oasis", 1000), entry("oasis", 2000), entry("spade", 2000)]
    titles = {row[0] for row in iteration_table(given, PAPER).rows}
    assert "OASIS" in titles
    assert "SPADE" not in titles


def test_table_2_has_each_method_at_its_last_checkpoint_beside_the_papers_row():
    given = [entry("ddpm-edge", n, psnr=result("PSNR", n / 1000, "dB")) for n in (10_000, 30_000, 20_000)]
    given.append(entry("my-own", 5))
    table = method_table(given, PAPER)
    ours = [row for row in rows(table) if row[2] == "ctsynth"]
    assert ours == [("Edge-guided DDPM", "30,000", "ctsynth", NOTHING), ("my-own", "5", "ctsynth", NOTHING)]
    assert [row[0] for row in rows(table) if row[2] == "paper"] == list(PAPER.methods.values())
    assert cell(table, -2, "PSNR (dB) ↑") == "30.00"
    assert [cell(table, n, "FID ↓") for n in sorted(table.quoted)] == [
        "78.86", "43.57", "60.22", "12.68", "10.56", "10.58", "10.64"
    ]  # fmt: skip


def test_the_organs_stand_in_the_papers_order_with_a_number_in_every_cell_but_the_mean():
    table = method_table([], PAPER)
    assert table.headers[len(NAMES) :] == (
        "FID ↓", "PSNR (dB) ↑", "SSIM ↑", "DSC (%) ↑", "Spleen", "Liver", "L. Kidney", "R. Kidney", "Pancreas",
        "Stomach", "Aorta", "Gallbladder", "Esophagus", "R. Adrenal", "L. Adrenal", "Duodenum", "Postcava",
        "Bladder",
    )  # fmt: skip
    for n in range(len(table.rows)):
        cells = dict(zip(table.headers, table.rows[n], strict=True))
        assert [header for header in table.headers[len(NAMES) :] if cells[header] == NOTHING] == ["DSC (%) ↑"]


def test_both_contradictory_spleen_values_are_kept_as_printed():
    given = [entry("ddpm-edge", 150_000)]
    first, second = iteration_table(given, PAPER), method_table(given, PAPER)
    for table, printed in ((first, "93.5"), (second, "93.9")):
        place = rows(table).index(("Edge-guided DDPM", "150,000", "paper", NOTHING))
        assert cell(table, place, "Spleen") == printed
    assert any("93.5" in note and "93.9" in note for note in notes(given, PAPER))


def test_the_best_is_marked_among_ours_and_among_the_papers_apart():
    given = [entry("sdm", 9, dice=dice(95.0)), entry("oasis", 9, dice=dice(96.0)), entry("spade", 9)]
    ceiling = Reference(values={"dice": Value(value=99.0), "dice/spleen": Value(value=99.5)})
    given.append(entry("pix2pix", 9, ceiling=ceiling, dice=dice(90.0)))
    table = method_table(given, PAPER)
    best = bold(table)
    assert {one for one in best if one[2] == "ctsynth"} == {
        ("OASIS", "9", "ctsynth", "DSC (%) ↑"), ("OASIS", "9", "ctsynth", "Spleen")
    }  # fmt: skip
    assert {one for one in best if one[3] in ("Spleen", "Gallbladder") and one[2] == "paper"} == {
        ("Conditional DDPM", "150,000", "paper", "Spleen"), ("OASIS", "300 epochs", "paper", "Gallbladder")
    }  # fmt: skip
    assert table.rows[-1][0].startswith("Ceiling")
    assert cell(table, -1, "Spleen") == "99.5"


def test_in_table_1_the_best_are_those_of_each_number_of_iterations():
    given = [
        entry(method, n, psnr=result("PSNR", n / 1e4 + place, "dB"))
        for n in (100_000, 150_000)
        for place, method in enumerate(("ddpm-edge", "ddpm-mask"))
    ]
    assert {one for one in bold(iteration_table(given, PAPER)) if one[3] == "PSNR (dB) ↑"} == {
        ("Mask-guided DDPM", "50,000", "paper", "PSNR (dB) ↑"),
        ("Edge-guided DDPM", "100,000", "paper", "PSNR (dB) ↑"),
        ("Mask-guided DDPM", "150,000", "paper", "PSNR (dB) ↑"),
        ("Mask-guided DDPM", "100,000", "ctsynth", "PSNR (dB) ↑"),
        ("Mask-guided DDPM", "150,000", "ctsynth", "PSNR (dB) ↑"),
    }


@pytest.mark.parametrize("table", [iteration_table, method_table])
def test_phantoms_are_named_and_never_the_best(table):
    ceiling = Reference(values={"dice": Value(value=99.0)})
    given = [
        entry(
            "ddpm-mask", 150_000, phantom=True, ceiling=ceiling, psnr=result("PSNR", 40.0, "dB"), dice=dice(99.0)
        ),
        entry("ddpm-edge", 150_000, psnr=result("PSNR", 9.0, "dB")),
        entry("ddpm-concat", 150_000, psnr=result("PSNR", 8.0, "dB")),
    ]
    made = table(given, PAPER)
    assert {row[2] for row in made.rows} == {"paper", "ctsynth", "ctsynth, phantoms"}
    assert [row[2] for row in made.rows if row[0].startswith("Ceiling")] == ["ctsynth, phantoms"]
    ours = {one for one in bold(made) if one[2] != "paper"}
    assert ours == {("Edge-guided DDPM", "150,000", "ctsynth", "PSNR (dB) ↑")}
    first, *_ = notes(given, PAPER)
    assert first.startswith(
        "Scored on phantoms, not on CT of patients: the numbers of ddpm-mask, 150,000 iterations"
    )
    assert "never set in bold" in first
    assert not any("phantom" in note for note in notes(given[1:], PAPER))


def test_no_number_of_the_paper_is_drawn_on_the_bars_of_phantoms():
    given = [entry("sdm", 9, dice=dice(60.0)), entry("spade", 9, dice=dice(40.0), phantom=True)]
    printed = bars_of(given, PAPER)["dice"].printed
    assert printed["SDM"]["spleen"] == 91.9
    assert printed["SPADE (phantoms)"] == {}


def test_a_lower_fid_is_better_and_related_distances_are_shown_beside_it_or_not_at_all():
    plain = [entry("sdm", 9, fid=result("FID", 20.0, higher=False)), entry("spade", 9, fd_smoke=result("FD", 1.0))]
    table = method_table(plain, PAPER)
    assert "KID ↓" not in table.headers
    spade = rows(table).index(("SPADE", "9", "ctsynth", NOTHING))
    assert cell(table, spade, "FID ↓") == NOTHING  # what has another name is no FID
    more = [
        *plain,
        entry("oasis", 9, fid=result("FID", 10.0, higher=False), fid_kid=result("KID", 0.01, higher=False)),
    ]
    table = method_table(more, PAPER)
    assert table.headers[4:6] == ("FID ↓", "KID ↓")
    assert ("OASIS", "FID ↓") in {(table.rows[row][0], table.headers[column]) for row, column in table.best}


def test_floors_are_shown_once_for_all_that_share_them():
    floor = Reference(values={"fid": Value(value=3.25)})
    table = method_table([entry("sdm", 9, floor=floor), entry("oasis", 9, floor=floor)], PAPER)
    shown = [n for n, row in enumerate(table.rows) if row[0].startswith("Floor")]
    assert [cell(table, n, "FID ↓") for n in shown] == ["3.25"]


def test_the_notes_say_why_a_number_is_missing_and_where_the_test_is_not_the_papers():
    given = [entry("sdm", 9, left={"fid": "no weights here"}, size=64, dice=dice(50.0, segmenter="a small U-Net"))]
    said = "\n".join([*notes(given, PAPER), *reasons(given)])
    for words in (
        "FID: no weights here",
        "No floor: not computed",
        "64 x 64",
        "DSC with a small U-Net",
    ):
        assert words in said
    same = [entry("sdm", 9, dice=dice(50.0))]
    assert "Not the paper's test" not in "\n".join(notes(same, PAPER))


def test_bars_are_as_long_as_the_dice_and_in_the_papers_order():
    ceiling = Reference(values={"dice/spleen": Value(value=99.0)})
    given = [
        entry(m, 9, ceiling=ceiling, dice=dice(v), hu=result("HU", 1.0))
        for m, v in (("sdm", 60.0), ("spade", 40.0))
    ]
    bars = bars_of(given, PAPER)
    assert list(bars) == ["dice"]
    assert list(bars["dice"].results) == ["SPADE", "SDM"]
    assert bars["dice"].organs == ("spleen", "prostate")
    axes = organ_bars(bars["dice"]).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [40.0, 1.0, 60.0, 1.0]
    assert [99.0, 99.0] in [list(line.get_xdata()) for line in axes.lines]


@pytest.mark.parametrize("table", [iteration_table, method_table])
def test_a_table_without_our_scores_still_has_the_papers_rows(table):
    assert {row[2] for row in table([], PAPER).rows} == {"paper"}


@pytest.mark.parametrize("origin", ["label", "ct", ["mixed"]])
def test_volumes_drawn_from_tissues_are_marked_and_never_the_best(origin):
    given = [
        entry("ddpm-mask", 150_000, tissues=origin, psnr=result("PSNR", 40.0, "dB"), dice=dice(99.0)),
        entry("ddpm-concat", 150_000, tissues="none", psnr=result("PSNR", 15.0, "dB"), dice=dice(60.0)),
        entry("ddpm-edge", 150_000, psnr=result("PSNR", 14.0, "dB"), dice=dice(50.0)),
    ]
    made = method_table(given, PAPER)
    assert {row[2] for row in made.rows} == {"paper", "ctsynth", "ctsynth, from tissues"}
    assert not [name for name in bold(made) if name[2] == "ctsynth, from tissues"]
    assert [name for name in bold(made) if name[2] == "ctsynth"]
    assert score_table({one.name: one.scores for one in given}).best == {(1, 1), (1, 2)}
    assert [FROM_TISSUES in remarks(one.scores) for one in given] == [True, False, False]
