"""What does the page on serving show, as rows and points?"""
