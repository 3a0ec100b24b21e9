"""A training step compiled for TPUs that are not there, and its cost."""
