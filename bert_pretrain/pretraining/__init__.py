"""A pretraining run: from its options and its datasets to its results."""
