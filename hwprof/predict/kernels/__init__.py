"""How long does a kernel of a given shape take on a device?"""
