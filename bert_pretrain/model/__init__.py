"""The BERT model: its forward pass, its losses and its weights."""
