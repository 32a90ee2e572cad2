"""``python -m ctsynth`` is the ``ctsynth`` command."""

from ctsynth.cli.app import main

if __name__ == "__main__":
    main()
