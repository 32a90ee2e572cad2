"""The guide's study, with fewer subjects and steps."""

import json

from page_blocks import runs

from ctsynth.training import dryrun


@runs("docs/guides/augment.md")
def test_the_study_of_the_guide(page, tmp_path, monkeypatch):
    monkeypatch.setattr(dryrun, "MOST_STEPS", 1)
    page.smaller |= {
        "16 --test-subjects 8 --size 96 --slices 24": "4 --test-subjects 2 --size 32 --slices 6",
        "--preset tiny": "--preset tiny --method ddpm-concat --iterations 2 --generator-iterations 1 --steps 1",
        "--fractions 0.25,1 --draws 2 --seeds 2": "--fractions 1 --seeds 1 --device cpu",
    }
    page.run()
    plan, answer = (page.printed[line] for line in page.printed if line.startswith("ctsynth augment"))
    assert "4 segmenters" in plan
    assert "R+D - R+Dr" in answer
    content = json.loads((tmp_path / "augment" / "augment.json").read_text())
    assert [row["arm"] for row in content["rows"]] == ["R", "R+C", "R+Dr", "R+D"]
    assert content["store"]["phantom"]
