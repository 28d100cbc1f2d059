"""How long do the parts of a model's own step take? Its kernels, what takes most of it first, and the host."""
