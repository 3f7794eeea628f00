# SPDX-License-Identifier: MIT
"""Curves as a picture, with matplotlib, or with gnuplot if that is not installed."""

import shutil
import subprocess


def draw(file, curves, x, y):
    """Draws curves, {name: [(x, y), ...]}, to FILE.png. x, y: the labels of the axes."""
    try:
        import matplotlib
    except ImportError:
        if shutil.which("gnuplot") is None:
            raise ImportError("expected matplotlib or gnuplot, to draw a picture, got neither") from None
        subprocess.run(["gnuplot"], input=_script(file, curves, x, y), text=True, check=True)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    _, axes = pyplot.subplots()
    for name, points in curves.items():
        axes.plot(*zip(*points), marker="o", label=name)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend()
    axes.figure.savefig(file, dpi=120)
    pyplot.close(axes.figure)


def _script(file, curves, x, y):
    """The commands and data of gnuplot."""
    quoted = lambda text: "'" + str(text).replace("'", "''") + "'"  # noqa: E731
    lines = ["set terminal pngcairo size 768,576 noenhanced", f"set output {quoted(file)}", f"set xlabel {quoted(x)}", f"set ylabel {quoted(y)}",
             "set key bottom right", "set grid"]
    for k, points in enumerate(curves.values()):
        lines += [f"$c{k} << END", *(f"{a} {b}" for a, b in points), "END"]
    plots = (f"$c{k} with linespoints linewidth 2 pointtype {k + 4} title {quoted(name)}" for k, name in enumerate(curves))
    return "\n".join([*lines, "plot " + ", ".join(plots), ""])
