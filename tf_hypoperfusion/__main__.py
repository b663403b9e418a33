"""``python -m tf_hypoperfusion``: the command line, where it is not on the path."""

import sys

from tf_hypoperfusion.command_line import main

sys.exit(main())
