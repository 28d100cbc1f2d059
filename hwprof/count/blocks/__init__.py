"""Which operations and weights does a Transformer have, block by block?"""
