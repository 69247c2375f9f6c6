"""python -m memspike: the command line."""

from memspike.cli import main

if __name__ == "__main__":
    main()
