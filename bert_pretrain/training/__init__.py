"""A training run: its config, its loop, and what an update does."""
