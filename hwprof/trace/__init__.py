"""Where did the time of a traced training loop go? Reads the Chrome traces that Kineto writes, of any program."""
