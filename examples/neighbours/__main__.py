"""`python examples/neighbours NAME` runs one of these examples and prints its figures."""

import sys
from importlib import import_module

if __name__ == "__main__":
    print(import_module(sys.argv[1]).main())
