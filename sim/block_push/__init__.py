"""Two blocks, two squares, many right ways: the world in which multimodal imitation is measured."""
