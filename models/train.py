"""Train a network by the paper's recipe: python -m models.train --data DIR|ZIP --out RUN (docs/training.md)."""

import sys

from models.training.train import main

if __name__ == "__main__":
    sys.exit(main())
