"""`python -m d2skill`, the same as `d2skill`."""

from d2skill.cli.main import main

main()
