"""What does a torch module call, move and keep when it runs once?"""
