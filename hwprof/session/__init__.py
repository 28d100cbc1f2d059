"""How does a program start a run, on one rank or several? Typed requests in, records out; nothing is printed."""
