"""What are models, devices, links, jobs, runs and measurements? Frozen nouns, and the catalogue that keeps them."""
