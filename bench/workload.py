"""A day of a cluster for `bench.policies`: its hosts, and who asks for what, when, and for how long.

Made from a seed, so that every policy, and every run, meets the same jobs.
"""

import random
from collections import Counter
from dataclasses import dataclass

Shape = dict[str, int]

CPU_HOST: Shape = {"VCPU": 64, "Memory": 256}
GPU_HOST: Shape = {"VCPU": 64, "Memory": 512, "GPU": 8}

# How many of 100 jobs ask for so many instances of a shape; Memory in GiB.
MIX: tuple[tuple[int, int, Shape], ...] = (
    (44, 1, {"VCPU": 4, "Memory": 16}),
    (24, 1, {"VCPU": 8, "Memory": 32}),
    (14, 4, {"VCPU": 16, "Memory": 64}),
    (10, 1, {"VCPU": 16, "Memory": 128, "GPU": 4}),
    (7, 1, {"VCPU": 64, "Memory": 256}),
    (1, 8, {"VCPU": 64, "Memory": 256}),
)

# How many of 100 jobs each owner sends. The first floods: all of its jobs come in a few bursts.
FLOODER = "batch"
OWNERS = {FLOODER: 50, "research": 20, "web": 15, "ci": 10, "render": 5}
BURSTS = 5
BURST_SECONDS = 600.0

# Seconds that a job runs: lognormal, cut off, so that the longest is known.
MEDIAN_SECONDS = 1800.0
SIGMA = 1.0
SHORTEST_SECONDS, LONGEST_SECONDS = 60.0, 4 * 3600.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job: when it comes, in seconds, and for how many seconds it runs once it has gone."""

    request_id: str
    owner_id: str
    at: float
    seconds: float
    count: int
    shape: Shape

    @property
    def instances(self) -> list[Shape]:
        """What it asks for, as in `data.instances`."""
        return [self.shape] * self.count


@dataclass(frozen=True, slots=True)
class Workload:
    """The hosts, and the jobs in the order in which they come."""

    hosts: dict[str, Shape]
    arrivals: tuple[Arrival, ...]

    @property
    def totals(self) -> Counter[str]:
        """Of each resource, what all hosts have."""
        return sum(map(Counter, self.hosts.values()), Counter[str]())


def made(seed: int, jobs: int, hosts: int, load: float) -> Workload:
    """A workload of so many jobs, one host in five with GPUs.

    `load` is the VCPU-seconds that all jobs ask for, by what there is until the last of them comes. Who
    does not flood comes at random moments of all that time, which is a Poisson process with a known number of
    arrivals.
    """
    # Not for secrets.
    chance = random.Random(seed)
    cluster = {f"host-{n:03}": GPU_HOST if n % 5 == 4 else CPU_HOST for n in range(hosts)}
    asked = []
    for owner in chance.choices(list(OWNERS), list(OWNERS.values()), k=jobs):
        _, count, shape = chance.choices(MIX, [weight for weight, _, _ in MIX])[0]
        seconds = min(
            max(chance.lognormvariate(0, SIGMA) * MEDIAN_SECONDS, SHORTEST_SECONDS), LONGEST_SECONDS
        )
        asked.append((owner, seconds, count, shape))
    work = sum(count * shape["VCPU"] * seconds for _, seconds, count, shape in asked)
    span = work / (load * sum(host["VCPU"] for host in cluster.values()))

    def moment(owner: str) -> float:
        if owner != FLOODER:
            return chance.uniform(0, span)
        return span * (chance.randrange(BURSTS) + 0.5) / BURSTS + chance.uniform(0, BURST_SECONDS)

    timed = sorted(((moment(owner), owner, *rest) for owner, *rest in asked), key=lambda job: job[0])
    return Workload(
        cluster,
        tuple(
            Arrival(f"{owner}-{n}", owner, at, seconds, count, shape)
            for n, (at, owner, seconds, count, shape) in enumerate(timed)
        ),
    )
