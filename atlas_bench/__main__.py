"""python -m atlas_bench."""

from atlas_bench.cli import main

if __name__ == "__main__":
    main()
