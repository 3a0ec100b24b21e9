"""The dataset: the format of its records, its manifest, and how it is read."""
