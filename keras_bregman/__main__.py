"""`python -m keras_bregman`, where its script is not on the path."""

import sys

from keras_bregman.cli import main

sys.exit(main())
