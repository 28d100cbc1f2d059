"""What does the planner's page show, as rows and points?"""
