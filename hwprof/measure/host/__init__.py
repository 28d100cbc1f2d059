"""What is this machine: device, software, limits, caches, neighbours?"""
