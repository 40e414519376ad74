"""`python -m foolbench.bench.cli`: the `foolbench` command where it is not on the PATH."""

from . import main

main()
