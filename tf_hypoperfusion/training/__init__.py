"""Records -> a trained fold: input, losses, steps, checkpoints, curves."""
