"""Which plans are best, on which machine, at what cost?"""
