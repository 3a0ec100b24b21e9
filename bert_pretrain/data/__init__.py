"""The dataset: the format of its records, its manifest, and its reading."""
