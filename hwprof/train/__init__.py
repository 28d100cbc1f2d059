"""What does a real training loop do? A Transformer, its data, precision, optimizers and recompute (torch)."""
