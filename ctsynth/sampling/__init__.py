"""From a checkpoint and label maps to synthetic volumes."""
