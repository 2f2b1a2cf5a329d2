"""Policies as graphs for machines without torch."""
