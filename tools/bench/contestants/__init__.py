"""What is measured: this store, the stores it is compared with, and the machine's limits."""
