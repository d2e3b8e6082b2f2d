"""How much is measured: a full run, a quick one, a toy."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """The sizes of one run. Times in seconds, all else counts."""

    rounds: int
    seconds: float  # of one side in one round
    warm_up: float  # of each side before the first round; not counted
    sizes: tuple[int, int, int]  # waiting jobs: few, many, most; multiples of 4
    requests: int  # of a client that sends one after the other, in one round
    connections: int  # of the row with many
    array: int  # jobs in an array
    deliveries: int  # callbacks in one round
    hosts: int  # in the pool of an admission pass
    admissions: int  # passes in one round
    soak_minutes: float

    @property
    def many(self) -> int:
        """The size at which lists, releases and the limit of the store are measured."""
        return self.sizes[1]

    @property
    def most(self) -> int:
        """The length of the longest line."""
        return self.sizes[2]

    def shown(self) -> dict[str, object]:
        """The sizes as the table names them."""
        few, many, most = (f"{size:,}" for size in self.sizes)
        whole = {"connections": self.connections, "array": self.array, "hosts": f"{self.hosts:,}"}
        return {"few": few, "many": many, "most": most, "minutes": f"{self.soak_minutes:g}", **whole}


FULL = Scale(5, 4, 1, (1_000, 100_000, 1_000_000), 500, 512, 500, 5_000, 1_000, 20, 10)
QUICK = Scale(1, 1, 0.5, (1_000, 10_000, 40_000), 200, 512, 500, 1_000, 1_000, 10, 0)
TOY = Scale(1, 0.2, 0, (20, 40, 80), 10, 40, 20, 20, 20, 2, 0.02)
