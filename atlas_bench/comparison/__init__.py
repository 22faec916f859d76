"""Memories and models side by side: checked, trained, asked the same, and their answers compared in pairs."""
