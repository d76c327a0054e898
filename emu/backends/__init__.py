"""The host's end of devices: what a guest's character stream, and later its disk and network, end at."""
