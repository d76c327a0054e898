"""Devices, one file for each part, called by its number.  See emu.device for how one is written."""
