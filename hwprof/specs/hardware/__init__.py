"""What is a device, a link, a cluster?"""
