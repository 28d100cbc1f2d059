"""What does the analysis of traces show, as rows?"""
