"""Every figure that the README quotes, one command: `make bench`, or `python -m benchmarks` in an environment with afinet."""
