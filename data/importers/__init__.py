"""Recordings of other formats, turned into LeRobot datasets: one module per format, `run` for what they share."""
