"""What ``scripts/packaging/build`` and ``scripts/packaging/try-deb`` are made of."""
