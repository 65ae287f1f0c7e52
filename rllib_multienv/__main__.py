"""`python -m rllib_multienv` is the same as `multienv`."""

from rllib_multienv.cli import app

if __name__ == "__main__":
    app(prog_name="multienv")
