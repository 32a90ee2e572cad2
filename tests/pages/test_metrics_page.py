"""The commands of the scores' page."""

from page_blocks import runs
from small_stores import both_splits, write_synthetic


@runs("docs/metrics.md")
def test_scores_with_a_segmenter_of_ours_and_in_shards(page, tmp_path, small_case):
    store = both_splits(tmp_path / "out", small_case, size=32)
    write_synthetic(tmp_path / "synthetic", store)
    write_synthetic(tmp_path / "samples", store)
    page.run()
    _, with_segmenter, shard, whole = page.printed.values()
    assert "2-D U-Net of run segmenter" in with_segmenter
    assert "PSNR" in whole
    assert "PSNR" not in shard
