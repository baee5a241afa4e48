"""`python -m cronq`."""

from cronq.cli import main

main()
