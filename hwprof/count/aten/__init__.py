"""What does a call of a torch operator cost, whoever made it?"""
