"""How is each step of a training loop watched, and by which marks? It needs torch."""
