"""Programs that find organs in a CT: TotalSegmentator, or masks that some program has left on disk."""
