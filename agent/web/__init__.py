"""What this laptop serves to its own user, on the loopback address alone."""
