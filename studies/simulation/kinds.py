"""The kinds of runs on which the statistics are proven."""

from studies.simulation.fit import FORM_LEVELS, LEVELS
from studies.simulation.generators import Generator, Lognormal, Noise, Tabulated

# Fitted (studies.simulation.fit) to 21 rounds of 8 measurements on 2026-11-23: a virtual machine with 2 x86_64 cores,
# shared with other work, 400 req/s, closed loop, commit c33fb15.
STORED = Generator(
    Tabulated(
        LEVELS,
        (
            *(-1.2947, -0.9471, -0.6955, -0.4211, -0.2752, -0.1018, 0.0, 0.1595, 0.4854),
            *(0.7478, 0.9494, 1.1195, 1.2322, 1.3803, 1.6641, 2.0806, 2.3573, 3.8891),
        ),
    ),
    Noise(
        machine=0.2,
        machine_autocorrelation=0.923,
        path=0.185,
        path_autocorrelation=0.05,
        tail=0.405,
        form=Tabulated(
            FORM_LEVELS,
            (
                *(-2.1158, -1.8033, -1.3899, -1.202, -1.0221, -0.6175, -0.1869),
                *(0.4888, 1.5151, 1.8336, 2.1277, 2.329, 2.5584),
            ),
        ),
    ),
)
KINDS = {
    "lognormal, 1 % spikes": Generator(Lognormal(0.25, spikes=0.01, factor=8), Noise(path=0.02)),
    "drift": Generator(Lognormal(0.25), Noise(path=0.02, drift=0.3)),
    "correlated measurements": Generator(
        Lognormal(0.25), Noise(machine=0.02, machine_autocorrelation=0.9, path=0.015, path_autocorrelation=0.2)
    ),
    "stored run": STORED,
}
