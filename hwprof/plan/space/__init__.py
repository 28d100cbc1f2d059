"""Which layouts are there, which of them can run, and how long does each take?"""
