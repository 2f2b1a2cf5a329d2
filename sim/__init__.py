"""Worlds: scenes, tasks, physics, scripted experts, gymnasium environments."""
