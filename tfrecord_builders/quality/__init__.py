"""Quality of documents: cleaning, filters and deduplication."""
