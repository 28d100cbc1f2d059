"""How is serving asked for from the command line, and how is its answer printed?"""
