"""Which settings and layout are best, and why not the others?"""
