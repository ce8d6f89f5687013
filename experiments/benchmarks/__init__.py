"""What `python -m experiments bench` measures, a module each."""
