"""The model: its forward pass, its losses, its weights."""
