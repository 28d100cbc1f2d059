"""How long should each piece take, and which roof binds it?"""
