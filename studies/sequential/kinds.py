"""The kinds of noise that the sequential rules are proven on, for measurements a third as long as in a fixed run."""

from scipy import special

from studies.simulation.generators import Generator, Lognormal, Noise, Tabulated
from studies.simulation.kinds import KINDS as FIXED
from studies.simulation.kinds import STORED

# Levels at which the heavy tail is tabulated, and its degrees of freedom: a variance, and hardly more.
TAIL_LEVELS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999)
DEGREES, DEVIATION = 2.5, 2.0
HEAVY = Tabulated(TAIL_LEVELS, tuple(float(value) / DEVIATION for value in special.stdtrit(DEGREES, TAIL_LEVELS)))
# Rounds follow one another so many times as fast; a correlation to the next one is that much nearer to 1.
NEARER = 6.5 / 2.9
# A measurement a third as long scatters so much more: of 27 stored ones (2026-11-29, 2 busy cores, 0.8 s each, commit
# a32f56f), windows of 0.2 s share a variance of 0.129 and have 0.073 of their own; 1.35 s and 0.45 s average the latter
# over 6.75 and 2.25 windows.
LONGER_OWN, SHORTER_OWN, SHARED = 0.073 / 6.75, 0.073 / 2.25, 0.129
WIDER = ((SHARED + SHORTER_OWN) / (SHARED + LONGER_OWN)) ** 0.5

# The spreads of `make validate-method` of 2026-11-23 (commit 925c58c): ratios scatter by 11.3 % on p50, 90 % on p99.
VALIDATED = Generator(STORED.shape, STORED.noise._replace(path=0.08, tail=0.6))
FIXED_KINDS = FIXED | {
    "validation runs": VALIDATED,
    "heavy tails": Generator(Lognormal(0.25), Noise(path=0.05, form=HEAVY)),
    "rounds that resemble": Generator(Lognormal(0.25), Noise(path=0.05, path_autocorrelation=0.3)),
}


def shorter(kind: Generator) -> Generator:
    """Return the kind as measurements of a third of the length see it."""
    noise = kind.noise
    return kind._replace(
        noise=noise._replace(
            path=noise.path * WIDER,
            path_autocorrelation=noise.path_autocorrelation ** (1 / NEARER),
            machine_autocorrelation=noise.machine_autocorrelation ** (1 / NEARER),
        )
    )
