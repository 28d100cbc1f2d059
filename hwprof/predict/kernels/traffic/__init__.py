"""How long do kernels take that multiply no matrices: norms, activations, rotary embeddings, losses?"""
