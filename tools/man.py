#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""man.py PANDO INCLUDE_DIR VERSION: writes the manual pages below $MESON_INSTALL_DESTDIR_PREFIX/share/man (or ./man).

Section 1 comes from what `pando --help` and `pando help VERB` say, section 3 from the public headers: their comments are the
documentation, and there is no second text that could say something else.
"""
import os
import re
import subprocess
import sys
from pathlib import Path

PAGES = {"pando_cluster": ["cluster.h"], "pando_worker": ["worker.h"], "pando_http": ["types.h", "http.h"],
         "pando_app": ["app.h", "ctx.h", "router.h", "middleware.h"]}
SUMMARY = {"pando_cluster": "Node's cluster for C: the primary", "pando_worker": "Node's cluster for C: a worker",
           "pando_http": "an HTTP/1.1 server on libuv", "pando_app": "Koa for C"}


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.M)


def head(name, section, version, summary):
    return f'.TH {name.upper().replace("-", chr(92) + "-")} {section} "" "Pando {version}" "Pando"\n.SH NAME\n{escape(name)} \\- {escape(summary)}\n'


# ---- section 1

def options(lines):
    out = []
    for line in lines:
        found = re.match(r"  ((?:-\w, |    )?--?\S.*?)(?:  +(.*))?$", line)
        if found is None:
            out.append(escape(line.strip()))
        else:
            out += [".TP", f"\\fB{escape(found[1].strip())}\\fR", escape(found[2] or "")]
    return out


def command_page(name, text, version):
    """`pando VERB: summary`, usage, options, more, examples, with empty lines in between."""
    title, *blocks = re.split(r"\n\n+", text.strip())
    page = [head(name, 1, version, title.split(": ", 1)[1])]
    for block in blocks:
        lines = block.split("\n")
        if lines[0].startswith("usage: "):
            page += [".SH SYNOPSIS", ".nf", *(escape(line.removeprefix("usage: ").strip()) for line in lines), ".fi"]
        elif lines[0].startswith("Examples:"):
            page += [".SH EXAMPLES", ".nf", *(escape(line.strip()) for line in lines[1:]), ".fi"]
        elif re.match(r"  +-", lines[0]):
            page += [".SH OPTIONS", *options(lines)]
        else:
            page += [".SH DESCRIPTION", *(escape(line.strip()) for line in lines)]
    return "\n".join([*page, ".SH SEE ALSO", "\\fBpando\\fR(1), \\fBpando_cluster\\fR(3)", ""])


def front_page(text, verbs, version):
    page = [head("pando", 1, version, text.split("\n")[0]), ".SH SYNOPSIS", "\\fBpando\\fR \\fIVERB\\fR [\\fIoptions\\fR]", ".SH VERBS"]
    for verb, summary in verbs:
        page += [".TP", f"\\fBpando\\-{escape(verb)}\\fR(1)", escape(summary)]
    return "\n".join([*page, ".SH SEE ALSO", "\\fBpando_cluster\\fR(3), \\fBpando_http\\fR(3), \\fBpando_app\\fR(3)", ""])


def commands(pando, folder, version):
    ask = lambda *words: subprocess.run([pando, *words], check=True, capture_output=True, text=True).stdout
    text = ask("--help")
    verbs = re.findall(r"^  (\S+) +(.*)$", text, flags=re.M)
    (folder / "pando.1").write_text(front_page(text, verbs, version))
    for verb, _ in verbs:
        (folder / f"pando-{verb}.1").write_text(command_page(f"pando-{verb}", ask("help", verb), version))


# ---- section 3

def header_page(text):
    """Comments are paragraphs, everything else is code; a comment behind a declaration stays with it."""
    out, code = [], []

    def flush():
        while code and not code[-1].strip():
            code.pop()
        if code:
            out.extend([".PP", ".nf", *(escape(line) for line in code), ".fi"])
        code.clear()

    skipped = re.compile(r"\s*(#(ifndef|ifdef|endif|include|define PANDO_\w+_H).*|extern \"C\" \{|SPDX.*|typedef struct \w+ \w+;)?$")
    ended = True  # the paragraph
    for line in text.split("\n"):
        ended = ended or not line.startswith("//")
        comment = re.match(r"// ?(.*)", line)
        if comment and comment[1].startswith("SPDX"):
            continue
        if comment and re.match(r"-+ ", comment[1]):
            flush()
            out += [".SH " + escape(comment[1].strip("- ")).upper()]
        elif comment and comment[1].startswith("    "):
            code.append(comment[1])
        elif line.startswith("//") and not comment[1].strip():
            flush()
            out += [".PP"]
        elif comment:
            flush()
            out += [".PP" if ended else "", escape(comment[1].strip())]
            ended = False
        elif line == "}" or (not code and (not line.strip() or skipped.match(line))):
            continue
        else:
            code.append(line.replace("PANDO_API ", ""))
    flush()
    return [line for line in out if line]


def headers(include, folder, version):
    for page, files in PAGES.items():
        names = []
        out = [head(page, 3, version, SUMMARY[page]), ".SH SYNOPSIS", ".nf", *(f"#include <pando/{files[-1] if page != 'pando_app' else 'app.h'}>",
               "", "cc program.c $(pkg\\-config \\-\\-cflags \\-\\-libs pando)"), ".fi", ".SH DESCRIPTION"]
        for name in files:
            text = (include / "pando" / name).read_text()
            names += re.findall(r"^PANDO_API (?:__attribute__\(\(\w+\)\) )?[^(;]*?\b(pando_\w+)\(", text, flags=re.M)
            out += header_page(text)
        (folder / f"{page}.3").write_text("\n".join([*out, ".SH SEE ALSO", ", ".join(f"\\fB{other}\\fR(3)" for other in PAGES if other != page), ""]))
        for name in set(names) - set(PAGES):
            (folder / f"{name}.3").write_text(f".so man3/{page}.3\n")


def main():
    pando, include, version = sys.argv[1:]
    prefix = Path(os.environ.get("MESON_INSTALL_DESTDIR_PREFIX", "man"))
    for section in ("man1", "man3"):
        (prefix / "share/man" / section).mkdir(parents=True, exist_ok=True)
    commands(pando, prefix / "share/man/man1", version)
    headers(Path(include), prefix / "share/man/man3", version)


main()
