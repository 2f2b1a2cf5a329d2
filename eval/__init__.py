"""Rollouts, statistics and reports: how often a policy does what it was told."""
