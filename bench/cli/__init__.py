"""The command line: the only room that prints and exits."""


def main() -> None:
    """The `foolbench` command: read `sys.argv`, do what it says, and leave the process with SystemExit.

    The exit code is 0, 1 (below `--fail-under`), 2 (the input is wrong), 3 (the model failed), 4 (the surroundings:
    data, memory, disk), 5 (some attacks were not measured), 70 (a defect of foolbench), 130 or 143 (stopped).
    """
    from .app import main as run

    run()
