"""What is a Transformer, in numbers?"""
