"""`python -m rqueue` is the command line."""

from rqueue.cli import main

if __name__ == "__main__":
    main(prog_name="rqueue")
