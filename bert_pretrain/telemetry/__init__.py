"""Reports of a run: console output, logs, figures and hardware numbers."""
