"""python -m memspike: the command line."""

import sys


def main() -> None:
    """Start the command line; Ctrl-C is answered while it loads, too."""
    try:
        from memspike import cli

        cli.main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
