"""What do requests see that come one by one at a server? A simulation pass by pass."""
