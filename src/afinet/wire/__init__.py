"""Byte layouts and checksums. Imports nothing of afinet above uapi."""
