"""What this machine takes: its primitives for a profile, and an artifact that runs."""
