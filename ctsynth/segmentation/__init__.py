"""Organs found in a volume: by TotalSegmentator, by a trained run, or read from a folder of masks."""
