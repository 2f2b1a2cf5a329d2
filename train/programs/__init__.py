"""Teaching a small language model to write programs: instruction-program pairs from the tasks, and the training."""
