"""Networks that turn what a robot sees and is told into chunks of actions."""
