"""When does this rank come to each collective of somebody else's loop, and what did it do before?"""
