"""How far are predictions from what others measured?"""
