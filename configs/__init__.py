"""Settings of the commands: YAML files, one per command, and groups such as policy/ that a word picks from."""
