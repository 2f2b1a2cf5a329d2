"""Worlds: scenes, tasks, physics, scripted experts, gymnasium environments (importing this makes them known)."""

from sim.registration import register

register()
