"""``python -m native_kernels selftest [--json] [--quick]``: exit code 0 fit, 1 unfit, 2 usage."""

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence

from native_kernels.limits import Limits
from native_kernels.selftest import Report, run


def show(report: Report) -> str:
    """Return the report as text of at most 80 columns."""
    lines = [f"native_kernels on {report.machine}", "", "backends"]
    levels = f"levels {', '.join(report.levels)}; in force: {report.level}"
    for name, state in report.backends.items():
        state = f"ready: {levels}" if name == "cpu" else state
        state += "; computes" if name == report.backend else ""
        lines += textwrap.wrap(f"  {name:<10} {state}", 80, subsequent_indent=" " * 13)
    columns = list(dict.fromkeys(check.level for check in report.checks))
    lines += ["", f"  {'checks':<46}" + "".join(f"{column:>8}" for column in columns)]
    marks = {
        (check.name, check.level): "FAILED" if check.problem else "ok" for check in report.checks
    }
    for name in dict.fromkeys(check.name for check in report.checks):
        row = "".join(f"{marks.get((name, column), '-'):>8}" for column in columns)
        lines.append(f"  {name:<46}{row}")
    if report.limits is not None:
        lines += ["", f"limits of one core at level {report.limits.level}"]
        lines += _limit_lines(report.limits)
        lines += ["", f"  {'kernel':<36}{'rate':>16}   share of"]
        lines += [
            f"  {speed.kernel:<36}{_scaled(speed.rate, speed.unit):>16}"
            f"   {speed.bound:<14}{speed.share:>6.0%}"
            for speed in report.speeds
        ]
    problems = [f"  {check.level}: {check.problem}" for check in report.checks if check.problem]
    if problems:
        lines += ["", "not as it must be", *problems]
    verdict = "fit" if report.passed else "UNFIT: do not take paid work with these kernels"
    return "\n".join([*lines, "", f"{verdict} ({report.seconds:.1f} s)"])


def _scaled(rate: float, unit: str) -> str:
    gap = " " if unit.islower() else ""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rate >= factor:
            return f"{rate / factor:.3g} {prefix}{gap}{unit}/s"
    return f"{rate:.3g} {unit}/s"


def _limit_lines(limits: Limits) -> list[str]:
    rows = {
        "multiply-add": _scaled(limits.multiply_adds, "FLOP"),
        "tanh": _scaled(limits.tanh, ""),
        "exp": _scaled(limits.exp, ""),
        "memory read": _scaled(limits.read, "B"),
        "memory copy": _scaled(limits.copy, "B"),
        "cache read": _scaled(limits.cache_read, "B"),
    }
    return [f"  {name:<36}{rate:>16}" for name, rate in rows.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m native_kernels")
    commands = parser.add_subparsers(dest="command", required=True)
    selftest = commands.add_parser(
        "selftest", help="which backends are here, do they compute what they must, and how fast"
    )
    selftest.add_argument("--json", action="store_true", help="print the report as JSON")
    selftest.add_argument("--quick", action="store_true", help="take no speeds")
    given = parser.parse_args(arguments)
    report = run(quick=given.quick)
    print(json.dumps(report.as_dict(), indent=2) if given.json else show(report))
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
