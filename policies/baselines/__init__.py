"""What BESO is compared with: other action heads on the same transformer, observations, goals and data."""
