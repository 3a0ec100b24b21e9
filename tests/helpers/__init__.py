"""What several test files use; the fixtures are in conftest.py."""
