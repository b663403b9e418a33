"""How figures and units are written for people: one rounding, true signs and superscripts."""

import re

from data_tools.rounding import rounded, with_sign

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MOST_DIGITS = 3


def ml(value: float) -> str:
    """A volume.

    >>> ml(84.4), ml(3.14)
    ('84 mL', '3.1 mL')
    """
    return f"{rounded(value)} mL"


def beside_bound(value: float, required: str) -> str:
    """A figure with as many decimals as keep it on its side of a bound.

    Args:
        value: of the patient.
        required: comparison and bound, such as ``>= 15``.

    >>> beside_bound(68.2, ">= 15"), beside_bound(14.97, ">= 15"), beside_bound(70.3, "<= 70")
    ('68', '14.97', '70.3')
    """
    sign, bound = required.split()
    met = _compared(value, sign, float(bound))
    texts = [rounded(value), *(with_sign(value, digits) for digits in range(1, MOST_DIGITS + 1))]
    for text in texts:
        if _compared(float(text.replace("−", "-")), sign, float(bound)) == met:
            return text
    return texts[-1]


def _compared(value: float, sign: str, bound: float) -> bool:
    return value >= bound if sign == ">=" else value <= bound


def typeset(text: str) -> str:
    """Signs and powers as they are printed, in texts that are plain ASCII elsewhere.

    >>> typeset("ratio >= 1.8; 620e-6 mm2/s, 1e-3 mm2/s, b = 1000 s/mm2")
    'ratio ≥ 1.8; 620 × 10⁻⁶ mm²/s, 10⁻³ mm²/s, b = 1000 s/mm²'
    """
    text = text.replace(">=", "≥").replace("<=", "≤")
    text = re.sub(r"\bmm2\b", "mm²", text)
    text = re.sub(r"\b1e(-\d)(?= mm²)", lambda m: "10" + m[1].translate(SUPERSCRIPTS), text)
    return re.sub(
        r"\b(\d+)e(-\d)(?= mm²)", lambda m: f"{m[1]} × 10" + m[2].translate(SUPERSCRIPTS), text
    )
