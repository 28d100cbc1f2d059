"""How does a trace file become columns?"""
