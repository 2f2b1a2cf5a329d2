"""GRIF: instructions and pairs of pictures in one space of tasks, for learning control from data with few words."""
