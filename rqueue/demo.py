def run(once: bool) -> int:
    return 0
