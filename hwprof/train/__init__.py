"""The real training loop: a Transformer, its data, precision, optimizers and recompute."""
