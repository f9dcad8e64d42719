"""The whole system on this machine, from MySQL to the answers: what `make demo` runs."""
