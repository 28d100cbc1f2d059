"""How does hwprof measure a program that it did not start from the inside, and that knows nothing of it?"""
