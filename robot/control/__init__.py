"""Driving an arm in real time: the control loop, chunks by time, inference beside it, and the safety filter."""
