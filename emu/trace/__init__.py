"""What runs: the names of its addresses (symbols.py)."""
