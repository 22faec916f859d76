"""`atlas-bench` and `python -m atlas_bench`: the commands, and a Ctrl-C while they are imported."""


def main() -> None:
    """Run the command that was typed."""
    try:
        from atlas_bench.cli.app import main as command
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    command()


if __name__ == "__main__":
    main()
