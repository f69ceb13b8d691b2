"""``python -m qadtr_edge``: the command line, for where no script is on the path."""

from .cli import main

if __name__ == "__main__":
    main()
