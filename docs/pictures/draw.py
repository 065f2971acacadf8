"""Draws the dashboards of deploy/grafana from a real scrape: a grid with two workers computes for some minutes, one of them is
stopped on the way, and a real Prometheus with our rules watches. What a panel shows is its own query's answer.

README.md beside it says how to run it; an argument says for how many minutes.
"""

import math
import pathlib
import re
import sys
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "python"))

import matplotlib  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import PIL.Image  # noqa: E402

import queries  # noqa: E402
import scrape  # noqa: E402
import test_scraped  # noqa: E402

# Scrapes come every second here, so that a rate over this has enough of them.
RATE = "20s"
WIDTH_INCHES = 15
# One column and one row of Grafana's grid, as shares of that.
COLUMN, ROW = 1 / 24, 0.028
FIELDS = {"s": "s", "ops": "/s", "Bps": "B/s", "bytes": "B", "percentunit": "%", "short": ""}


def compute(grid, minutes):
    """Work of three customers for some minutes, and a worker that goes; the time at which it began."""
    begun = time.time()
    end = begun + 60 * minutes
    customers = ["acme", "globex", "initech"]
    late = grid.services["worker-2"]
    for number in range(1000):
        if time.time() > end:
            break
        keys = ["", "quorum = 2", 'deadline = "1h"', "deadline = 5"][number % 4]
        grid.submit(items=24 + 16 * (number % 3), paths=1024, keys=keys, customer=customers[number % 3])
        if number % 5 == 4:
            grid.submit(items=4, tables="[limits]\nfuel_per_item = 1000\n", customer="globex")
        if number == 3:
            late.stop()
        time.sleep(4)
    return begun


def scaled(value, unit):
    """A number as Grafana writes it, shortly."""
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    sign = "B" if unit in ("bytes", "Bps") else ""
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit and unit != "s":
            return f"{value / limit:.3g} {letter}{sign}" + ("/s" if unit in ("ops", "Bps") else "")
    return f"{value:.3g} {FIELDS[unit]}".strip()


def legend(pattern, labels):
    return re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), pattern)


def asked(query):
    return queries.resolved(query.replace("$__rate_interval", RATE).replace("$__range", "1h"))


def draw_panel(axes, panel, prometheus, span):
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.set_title(panel["title"], fontsize=8, loc="left")
    if panel["type"] != "timeseries":
        axes.axis("off")
        found = prometheus.query(asked(panel["targets"][0]["expr"]))
        if panel["type"] == "stat":
            text = scaled(float(found[0]["value"][1]), unit) if found else "-"
            axes.text(0.5, 0.4, text, fontsize=16, ha="center", va="center")
        else:
            rows = [f"{' '.join(series['metric'].values())}: {scaled(float(series['value'][1]), unit)}" for series in found]
            axes.text(0, 0.9, "\n".join(rows), fontsize=7, va="top")
        return
    for target in panel["targets"]:
        found = prometheus.api("query_range", query=asked(target["expr"]), start=span[0], end=span[1], step=2)["result"]
        for series in found:
            points = [(float(at) - span[0], float(value)) for at, value in series["values"]]
            points = [(at, value) for at, value in points if math.isfinite(value)]
            label = legend(target["legendFormat"], series["metric"]).strip()
            axes.plot(*zip(*points), linewidth=0.9, label=label) if points else None
    axes.set_xlim(0, span[1] - span[0])
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=6, length=2)
    axes.yaxis.set_major_formatter(lambda value, _: scaled(value, unit))
    axes.xaxis.set_major_formatter(lambda value, _: f"{int(value) // 60}:{int(value) % 60:02}")
    axes.grid(linewidth=0.3)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles[:8], labels[:8], fontsize=5, loc="upper left", frameon=False, ncols=2)


def draw(name, dashboard, prometheus, span):
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    height = rows * ROW * WIDTH_INCHES * 0.72
    figure = plt.figure(figsize=(WIDTH_INCHES, height))
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        x, top = place["x"] * COLUMN, 1 - place["y"] / rows
        if panel["type"] == "row":
            figure.text(0.004, top - 0.9 / rows, panel["title"], fontsize=10, weight="bold")
            continue
        # Room for titles and numbers within the panel's place.
        below, above = 1.1 / rows, 1.2 / rows
        size = [place["w"] * COLUMN - 0.05, place["h"] / rows - below - above]
        axes = figure.add_axes([x + 0.042, top - place["h"] / rows + below, *size])
        draw_panel(axes, panel, prometheus, span)
    file = HERE / name.replace(".json", ".png")
    figure.savefig(file, dpi=76)
    plt.close(figure)
    PIL.Image.open(file).convert("P", palette=PIL.Image.Palette.ADAPTIVE, colors=48).save(file, optimize=True)
    print(f"{file.name}: {file.stat().st_size // 1024} KiB")


def main():
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 4
    with scrape.Grid() as grid:
        vhost = urllib.parse.urlsplit(grid.env["OFFPEAK__AMQP__URL"]).path[1:]
        prometheus = grid.prometheus(queries.RULE_FILES, test_scraped.broker_jobs(vhost))
        begun = compute(grid, minutes)
        span = (begun, time.time())
        for name, dashboard in queries.dashboards().items():
            draw(name, dashboard, prometheus, span)


if __name__ == "__main__":
    main()
