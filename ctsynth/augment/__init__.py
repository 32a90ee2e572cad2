"""Does synthetic CT help a segmenter? The study behind ``ctsynth augment``."""
