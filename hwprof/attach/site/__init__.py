"""What does Python find first in a program that is attached to? One module, which Python knows by name."""
