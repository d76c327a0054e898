"""Boards: one file for each family.  See emu.board for how one is written."""
