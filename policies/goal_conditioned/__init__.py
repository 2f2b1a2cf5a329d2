"""What goal-conditioned imitation shares, whatever its action head: observations, goals, their masking, scaling."""
