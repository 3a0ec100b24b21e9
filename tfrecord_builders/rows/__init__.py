"""Tokens to rows: filled, paired, packed, masked."""
