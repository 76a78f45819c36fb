"""`python -m simulator` is the command `ramwise`."""

from simulator.cli import main

main()
