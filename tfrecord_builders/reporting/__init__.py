"""What the report shows of a dataset: its statistics, charts and page."""
