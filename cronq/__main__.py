"""`python -m cronq`."""

from cronq.cli import main

if __name__ == "__main__":
    main()
