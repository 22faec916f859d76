import sys

from atlas_bench.lmeval.cli import main

sys.exit(main(sys.argv[1:]))
