"""The kinds of runs on which the statistics are proven."""

from report.simulation.generators import Generator, Lognormal, Noise

KINDS = {
    "lognormal, 1 % spikes": Generator(Lognormal(0.25, spikes=0.01, factor=8), Noise(path=0.02)),
    "drift": Generator(Lognormal(0.25), Noise(path=0.02, drift=0.3)),
    "correlated blocks": Generator(Lognormal(0.25), Noise(machine=0.03, machine_memory=0.9, path=0.02)),
}
