"""What does Python find before anything else in a program that is attached to? One module, which Python knows by name."""
