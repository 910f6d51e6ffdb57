"""What counts to expect of independent draws."""

import math


def bounds(calls: int, share: float, alpha: float = 1e-6) -> tuple[int, int]:
    """Return between which counts a binomial one lies but for `alpha` on either side, exactly."""

    def log_probability(count: int) -> float:
        ways = math.lgamma(calls + 1) - math.lgamma(count + 1) - math.lgamma(calls - count + 1)
        return ways + count * math.log(share) + (calls - count) * math.log(1 - share)

    low, below = -1, 0.0
    while below <= alpha:
        low += 1
        below += math.exp(log_probability(low))
    high, above = calls + 1, 0.0
    while above <= alpha:
        high -= 1
        above += math.exp(log_probability(high))
    return low, high
