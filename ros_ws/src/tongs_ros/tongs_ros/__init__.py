"""The nodes of Tongs on rclpy: thin, over the same logic that runs without ROS (`robot/ros` of Tongs)."""
