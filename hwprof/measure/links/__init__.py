"""What do the links between ranks and devices give?"""
