"""YAY Robot: a high level that speaks to a low level, and learns from people who correct it (arXiv 2403.12910)."""
