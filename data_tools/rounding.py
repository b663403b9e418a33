"""The one rounding of volumes for people."""

DETAILED_BELOW = 10.0


def rounded(value: float) -> str:
    """One decimal below 10, none above.

    >>> [rounded(value) for value in (0, 0.97, 9.94, 9.96, 84.4, -1.44, -20.6)]
    ['0', '1.0', '9.9', '10', '84', '−1.4', '−21']
    """
    if not value:
        return "0"
    return with_sign(value, 1 if abs(round(value, 1)) < DETAILED_BELOW else 0)


def with_sign(value: float, digits: int) -> str:
    """A figure with a true minus sign.

    >>> with_sign(-0.5, 2)
    '−0.50'
    """
    return f"{value:.{digits}f}".replace("-", "−")
