"""Which documents are kept: filters, and what duplicates are found by."""
