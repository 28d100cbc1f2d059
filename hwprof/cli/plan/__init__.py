"""How is the planner asked from the command line, and how is its answer printed?"""
