"""What benchmarks compare with: other methods, in our own statement."""
