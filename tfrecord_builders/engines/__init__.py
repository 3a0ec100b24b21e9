"""Engines, which run work units: on this machine, or by Apache Beam."""
