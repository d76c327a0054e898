"""What is put into a machine's memory before it runs: raw images, firmware, ELF files, device trees."""
