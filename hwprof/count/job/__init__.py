"""What does one device compute and hold of a training job under its layout?"""
