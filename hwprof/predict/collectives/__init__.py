"""How long do collectives take on given links?"""
