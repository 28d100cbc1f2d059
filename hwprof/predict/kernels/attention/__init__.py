"""How long does attention take: whole sequences forward and backward, and one new token against a cache?"""
