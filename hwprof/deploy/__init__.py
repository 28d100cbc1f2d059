"""What does a trained model cost to serve: how fast, on how many devices, for how much?"""
