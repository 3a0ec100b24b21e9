"""What a run tells about itself: on the console, in its log, in figures."""
