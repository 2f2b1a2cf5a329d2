"""A policy on another machine: the server that shares it, and the client that is a policy itself.

The client needs NumPy, msgspec and websockets; the server aiohttp and prometheus-client too (extra `serve`).
"""
