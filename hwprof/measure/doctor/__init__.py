"""What of this machine can hwprof use, and what would make more of it usable?"""
