"""`rgrid`: the command itself. A Ctrl-C that comes while the rest is still being read in is no traceback either."""

import os
import sys


def run() -> None:
    """Be `rgrid`."""
    try:
        from rgrid_cli.main import main

        code = main(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        os._exit(130)
    except BrokenPipeError:  # whoever read us has had enough; writing at exit would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    except OSError as error:
        sys.stderr.write(f"error[disk-full]: cannot write: {error.strerror}\nhint: Make room, then try again.\n")
        os._exit(125)
    sys.exit(code)


if __name__ == "__main__":
    run()
