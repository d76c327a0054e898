"""Linux user mode."""
