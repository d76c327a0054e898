"""Guests that are ready to boot, made of Debian's packages and kept in emu's cache."""
