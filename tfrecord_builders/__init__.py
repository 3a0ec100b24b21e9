"""Turning raw text into sharded, masked TFRecords."""

import bert_pretrain  # noqa: F401  Sets what TensorFlow reads at its import.
