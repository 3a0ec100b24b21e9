"""What a model reaches on held-out text."""
