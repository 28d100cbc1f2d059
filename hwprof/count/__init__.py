"""What does the work cost? FLOP, bytes and memory from dimensions alone; no hardware, no torch."""
