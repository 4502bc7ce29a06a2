"""The benchmark behind `make bench`: this store, its peers and the machine's limits in one run."""
