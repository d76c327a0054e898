"""Roots of foreign systems: unpacked from archives, and entered without being root."""
