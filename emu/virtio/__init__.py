"""Virtio devices (OASIS Virtual I/O Device 1.2): queues, transports and devices.

What a guest's speed depends on is C, in native/: each device works in a thread of its own, which waits for
the queues' doorbells and for the host's descriptors and never enters Python.  The classes here make devices,
give them their options, save and restore them.

    Machine("virt", devices=[(VirtioMmio(VirtioRng()), 0x0A00_0000, 16)])
"""
