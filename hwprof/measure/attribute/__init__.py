"""Where did the recorded time go? Spans of a trace to modules, phases, collectives and idleness; no torch."""
