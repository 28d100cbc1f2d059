"""How does a script run where its devices are not? What torch is made to believe, and who watches it."""
