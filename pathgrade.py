"""The pathgrade command."""
