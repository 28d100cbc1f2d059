"""How does a file of a profiler become columns? A Chrome trace as a stream, others by their schema: numbered alike."""
