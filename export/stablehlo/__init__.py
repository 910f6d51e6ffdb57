"""StableHLO, for TPUs and whatever else XLA compiles for (docs/tpu.md)."""
