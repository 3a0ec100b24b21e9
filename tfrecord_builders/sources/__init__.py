"""Sources of documents: one file for each format of the user's files."""
