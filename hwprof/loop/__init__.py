"""What does a training loop that somebody else wrote really do? The Python API around the measuring side."""
