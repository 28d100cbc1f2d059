"""Which models, devices, links, clusters and parameters are known, and what does a name stand for?"""
