"""Terminal and browser: the one package that imports all others."""
