"""What should change in a run that was measured, and what would it gain?"""
