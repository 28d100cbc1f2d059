"""How does the training step run over several ranks?"""
