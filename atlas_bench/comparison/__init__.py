"""Memories and models side by side, each checked and asked the same."""
