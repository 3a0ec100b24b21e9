"""The model directory of a run: saves, restores and exports a model."""
