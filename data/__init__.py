"""Episodes on disk: LeRobotDataset folders, their repair and export, statistics, and the decoded cache for training."""
