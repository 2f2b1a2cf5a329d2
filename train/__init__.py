"""Training loops: demonstrations in, checkpoints out."""
