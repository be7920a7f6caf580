"""What the statistics of attention mean: pure functions of arrays, every score beside its null."""
