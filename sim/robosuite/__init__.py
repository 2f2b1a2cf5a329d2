"""robosuite's tasks as worlds of ours: the same observations, actions, words and scenes by number."""
