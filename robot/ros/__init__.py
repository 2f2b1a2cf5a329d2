"""ROS 2 without what ties it to one Python: a transport, its names, types and qualities of service, and the nodes."""
