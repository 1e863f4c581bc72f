"""What builds, runs and shows the project; not part of the distribution."""
