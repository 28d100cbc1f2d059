"""What does a training loop that somebody else wrote train, on what, with which optimizer?"""
