"""The making of a dataset: from text, or from records of another program."""
