"""BESO: goal-conditioned imitation with score-based diffusion (Reuss et al., RSS 2023, arXiv 2304.02532)."""
