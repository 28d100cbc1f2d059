"""How much memory does a training step need, when does it peak, and for what?"""
