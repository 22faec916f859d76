"""What a cell leaves behind: one record per line, kept (store), weighed (stats) and shown (table)."""
