# SPDX-License-Identifier: MIT
"""What the benchmarks print: tables, as text for the terminal and as Markdown for results.md, and the machine they ran on."""

import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median


@dataclass
class Table:
    title: str
    header: list
    rows: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    def text(self):
        lines = [self.header, ["-" * len(cell) for cell in self.header], *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        out = [self.title, ""]
        for line in lines:
            cells = [line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
            out.append("  " + "  ".join(cells).rstrip())
        return "\n".join(out + [""] + [f"  {note}" for note in self.notes]) + "\n"

    def markdown(self):
        def line(cells):
            return "| " + " | ".join(cells) + " |"

        rule = ["---"] + ["---:"] * (len(self.header) - 1)
        out = [f"## {self.title}", "", line(self.header), line(rule), *map(line, self.rows), ""]
        return "\n".join(out + [f"* {note}" for note in self.notes]) + "\n"


def number(value, digits=0):
    return "-" if value is None else f"{value:,.{digits}f}"


def with_range(values, digits=0):
    """The median, and where the rounds lay."""
    if len(values) < 2:
        return number(median(values), digits)
    return f"{number(median(values), digits)} ({number(min(values), digits)}-{number(max(values), digits)})"


def target(text, value, is_met, digits=2, unit=""):
    if value is None:
        return f"target: {text}: not measured"
    return f"target: {text}: {value:.{digits}f}{unit}: {'met' if is_met(value) else 'MISSED'}"


def output_of(*command):
    try:
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "not there"


def machine(lab):
    models = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    total_kb = int(Path("/proc/meminfo").read_text().split()[1])
    version = output_of(lab.pando, "--version") if lab.has_pando else "Pando: not built"
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return [
        f"{platform.machine()}, {models[0] if models else 'unknown CPU'}, {len(os.sched_getaffinity(0))} cores, {total_kb / 1048576:.1f} GiB",
        f"Linux {platform.release()}; {version}; Node {output_of('node', '--version')}; uid {os.geteuid()}; load {load}",
    ]
