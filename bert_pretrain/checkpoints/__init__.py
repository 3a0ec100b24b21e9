"""The model directory of a run: checkpoints, saved and restored."""
