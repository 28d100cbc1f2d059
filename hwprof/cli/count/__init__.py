"""How is a model counted from the command line, and how is the count printed?"""
