"""Episodes on disk: LeRobotDataset v3.0 folders, their statistics, and the decoded cache that training reads."""
