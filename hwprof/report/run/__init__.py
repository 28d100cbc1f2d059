"""What does the report of a run show, as rows and points?"""
