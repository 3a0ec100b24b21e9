"""What runs the work units of a build: this machine, or Apache Beam."""
