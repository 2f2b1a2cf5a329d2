"""RT-H: an action hierarchy with language motions between the instruction and the action (arXiv 2403.01823)."""
