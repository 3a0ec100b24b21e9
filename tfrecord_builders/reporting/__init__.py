"""The report about a dataset: its statistics, charts and page."""
