"""`python -m memdb.cli …` is the program `memdb`, for where no script was installed."""

from memdb.cli import main

if __name__ == "__main__":
    main()
