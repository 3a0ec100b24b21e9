"""From token ids to rows: pairing, packing, masking."""
