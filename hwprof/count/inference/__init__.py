"""What do serving and generating cost: prefill, decode steps, cache, weights?"""
