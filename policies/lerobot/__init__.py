"""LeRobot's policies behind the robot contract; LeRobot itself is imported only when one is loaded."""
