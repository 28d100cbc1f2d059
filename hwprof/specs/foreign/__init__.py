"""What is a file that other tools wrote: a model in their words, or no model at all?"""
