"""The stages of a build, and the build itself (pipeline.py)."""
