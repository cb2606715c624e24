"""`python -m actors` is `microserve`."""

from .cli import main

main()
