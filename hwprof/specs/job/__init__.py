"""What is asked of one training step: settings, formats, layout, and the names of its parts?"""
