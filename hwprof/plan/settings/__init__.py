"""How is a plan told to a framework? One module a framework; each writes its file or says what it can't express."""
