"""Arms that are driven from this process: one file per kind, each a `StreamedRobot` of joint positions."""
