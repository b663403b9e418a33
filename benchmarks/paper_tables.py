"""Do our statistics give the paper's printed Table 2 from the paper's own counts?

    python -m benchmarks.paper_tables

Every percentage of Table 2 from its counts, the eleven intervals of the text, McNemar's P (exact
for the primary cohort, whose discordant cells follow from the text; bounds for the subgroups),
beside what was printed (Yu et al., Radiology 2023;307(1):e220882). Exit status 1 if anything but
the one known slip of the paper differs.
"""

import sys

from absl import flags

from data_tools.runtime import command

FLAGS = flags.FlagValues()

# Sensitivity, specificity, PPV, NPV, accuracy: (k, n, printed percent). P as printed.
TABLE_2 = {
    ("Primary analysis", "<.001"): (
        ((254, 283, 90), (100, 130, 77), (254, 284, 89), (100, 129, 78), (354, 413, 86)),
        ((140, 281, 50), (116, 130, 89), (140, 154, 91), (116, 257, 45), (256, 411, 62)),
    ),
    ("Baseline core >0 mL", "<.001"): (
        ((217, 227, 96), (78, 99, 79), (217, 238, 91), (78, 88, 89), (295, 326, 90)),
        ((114, 225, 51), (89, 99, 90), (114, 124, 92), (89, 200, 45), (203, 324, 63)),
    ),
    ("Baseline core equal to 0 mL", ".38"): (
        ((37, 56, 66), (22, 31, 71), (37, 46, 80), (22, 41, 54), (59, 87, 68)),
        ((26, 56, 46), (27, 31, 87), (26, 30, 87), (27, 57, 47), (53, 87, 61)),
    ),
    ("Large vessel occlusion", "<.001"): (
        ((210, 222, 95), (62, 70, 89), (210, 218, 96), (62, 74, 84), (272, 292, 93)),
        ((117, 222, 53), (66, 70, 94), (117, 121, 97), (66, 171, 39), (183, 292, 63)),
    ),
    ("No large vessel occlusion", ".29"): (
        ((37, 54, 69), (38, 59, 64), (37, 58, 64), (38, 55, 69), (75, 113, 66)),
        ((18, 52, 35), (49, 59, 83), (18, 28, 64), (49, 83, 59), (67, 111, 60)),
    ),
}
# k, n, printed limits in whole percent.
INTERVALS = (
    (254, 283, 86, 93), (100, 130, 69, 83), (140, 281, 44, 56), (116, 130, 83, 94),
    (354, 413, 82, 89), (256, 411, 57, 67), (361, 411, 84, 90), (264, 281, 90, 96),
    (97, 130, 66, 81), (44, 46, 83, 99), (19, 46, 28, 56),
)  # fmt: skip
SLIP = (361, 411)  # 84, 91 by every method
FIGURES = ("sensitivity", "specificity", "PPV", "NPV", "accuracy")
# From the text: 264 of 281 by either, 97 of 130 by neither, so 124 + 3 and 11 + 19 are discordant.
DISCORDANT = (127, 30)


def in_percent(k: int, n: int) -> tuple[str, str, str]:
    """k of n and the limits of its interval, whole percent."""
    from tf_hypoperfusion.evaluation import statistics
    from tf_hypoperfusion.evaluation.report.table import percent

    found = statistics.proportion(k, n)
    shares = (found.value, found.low, found.high)
    value, low, high = ("n/a" if share is None else str(percent(share)) for share in shares)
    return value, low, high


def main() -> int:
    """Print every figure beside the printed one."""
    from tf_hypoperfusion.evaluation import statistics
    from tf_hypoperfusion.evaluation.report.table import p_value

    differ = 0
    print(f"{'Table 2':<30}{'':<10}{'ours':>8}{'printed':>9}")
    for (group, printed_p), decisions in TABLE_2.items():
        for name, row in zip(("model", "DAWN"), decisions, strict=True):
            for figure, (k, n, printed) in zip(FIGURES, row, strict=True):
                ours, *_ = in_percent(k, n)
                mark = "" if ours == str(printed) else "  DIFFERS"
                differ += bool(mark)
                print(f"{group:<30}{name:<6}{figure:<12}{k:>4}/{n:<4}{ours:>4}{printed:>6}{mark}")
        right = decisions[0][4][0], decisions[1][4][0], decisions[1][4][1]
        low, high = statistics.mcnemar_bounds(*right)
        if group == "Primary analysis":
            p = statistics.mcnemar_exact(*DISCORDANT)
            print(f"{group:<30}McNemar P {p:.1e}, printed {printed_p}")
            differ += p_value(p) != printed_p
        else:
            value = 0.001 if printed_p == "<.001" else float(printed_p)
            inside = low <= value + 0.005 and (printed_p == "<.001" or high >= value - 0.005)
            differ += not inside
            print(
                f"{group:<30}McNemar P from {low:.2g} to {high:.2g} by its counts, printed "
                f"{printed_p}{'' if inside else '  DIFFERS'}"
            )
    print(f"\n{'Intervals':<12}{'ours (Stata)':>14}{'printed':>10}")
    for k, n, low, high in INTERVALS:
        _, lower, upper = in_percent(k, n)
        same, known = (lower, upper) == (str(low), str(high)), (k, n) == SLIP
        mark = "" if same else "  a slip of the paper" if known else "  DIFFERS"
        differ += mark == "  DIFFERS"
        print(f"{k:>5}/{n:<6}{lower:>8}, {upper}{low:>7}, {high}{mark}")
    print(f"\n{differ} figure(s) differ")
    return int(differ > 0)


if __name__ == "__main__":
    sys.exit(command.run(main, FLAGS, __doc__))
