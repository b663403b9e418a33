"""What the benchmarks share: flags, turns, counting, tables."""
