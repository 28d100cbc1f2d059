"""The frozen nouns of hwprof: models, devices, links, clusters, runs, measurements; and their catalogue."""
