"""What policies perceive with: images, and the tokens of an instruction."""
