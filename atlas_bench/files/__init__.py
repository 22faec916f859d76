"""Files: whole or not at all, locked, text, the user's own code, the hub."""
