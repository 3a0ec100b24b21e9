"""Watches the headlines of companies, and says when bad news accumulates.

    python examples/finance_news/watch.py --model_dir=output/headlines \\
        --output_dir=output/watch
    tail -f -n +1 headlines.jsonl | python examples/finance_news/watch.py \\
        --model_dir=output/headlines --output_dir=output/watch \\
        --input_file=- --batch_size=1

The input has one JSON object in each line: date (YYYY-MM-DD), company,
headline. The model labels the headline. For each company the program compares
the days of the window, which end with the latest headline, with all earlier
days, the base. If the base has a negative headlines of b, the share of negative
ones has the distribution Beta(1 + a, 1 + b - a): Bayes' rule after a uniform
prior. With that share, as many negative headlines as in the window, or more,
have a probability by the beta-binomial distribution. If it is small, there is
an alert. So a company with a short base needs more bad news for an alert.

An alert begins an episode, and there is no second alert in it. It ends when the
probability, with the same base, is no longer small.
"""

import bisect
import collections
import dataclasses
import datetime
import itertools
import json
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bert_pretrain import command_line, errors, options

_FOLDER = pathlib.Path(__file__).parent
_DAY = datetime.timedelta(days=1)
NEGATIVE = "negative"
_COLORS = {NEGATIVE: "tab:red", "neutral": "0.6", "positive": "tab:green"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule(options.Options):
    """When bad news accumulates."""

    window_days: int = options.option(
        "Days of the window, with that of the latest headline.", 7, at_least=1
    )
    min_in_window: int = options.option(
        "Headlines that a window needs for an alert.", 5, at_least=1
    )
    min_in_base: int = options.option(
        "Earlier headlines that a company needs for an alert.", 15, at_least=1
    )
    alert_below: float = options.option(
        "Probability below which an alert begins an episode.",
        0.01,
        above=0,
        below=1,
    )
    calm_above: float = options.option(
        "Probability above which the episode is over.", 0.2, above=0, below=1
    )

    def __post_init__(self):
        super().__post_init__()
        if self.calm_above < self.alert_below:
            raise errors.UserError(
                f"--calm_above={self.calm_above} is below "
                f"--alert_below={self.alert_below}, so an episode would end "
                "where it begins; raise it."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class WatchConfig(options.Options):
    """What to watch, and where alerts go."""

    model_dir: str = options.option("The --output_dir of `finetune`.")
    output_dir: str = options.option("Gets alerts.jsonl and sentiment.png.")
    rule: Rule
    input_file: str = options.option(
        "Headlines; - is the standard input.", f"{_FOLDER}/headlines.jsonl"
    )
    batch_size: int = options.option(
        "Headlines that are read and labelled at once; 1 for a live stream.",
        32,
        at_least=1,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Headline:
    """News about a company; the label may be missing until a model gives it."""

    date: datetime.date
    company: str
    text: str
    label: str | None = None


@dataclasses.dataclass(frozen=True)
class Tally:
    """Headlines of some days: how many there are, and are negative."""

    negative: int
    all: int

    def probability_after(self, base: "Tally") -> float:
        """P(as many negative headlines or more) if nothing changed since."""
        from scipy import stats

        prior = 1 + base.negative, 1 + base.all - base.negative
        return float(stats.betabinom.sf(self.negative - 1, self.all, *prior))


@dataclasses.dataclass(kw_only=True)
class Episode:
    """A time of bad news about a company.

    Attributes:
      since, until: the days of the alert and of the end, if it has ended.
      window, base: what was compared for the alert.
      base_end: the last day of the base.
      headlines: the negative ones of the window.
    """

    company: str
    since: datetime.date
    until: datetime.date | None = None
    window: Tally
    base: Tally
    base_end: datetime.date
    probability: float
    headlines: list[str]

    def __str__(self) -> str:
        if self.until:
            return f"{self.until} calm  {self.company}"
        return (
            f"{self.since} ALERT {self.company}: {self.window.negative} of "
            f"{self.window.all} headlines are negative, before "
            f"{self.base.negative} of {self.base.all} "
            f"(p = {self.probability:.2g})"
        )


class CompanyWatch:
    """The headlines of one company, sorted by date, and its episodes."""

    def __init__(self, rule: Rule):
        self.headlines: list[Headline] = []
        self.episodes: list[Episode] = []
        self._rule = rule

    def add(self, headline: Headline) -> Episode | None:
        """Takes a headline into account, which may be older than others.

        Returns:
          The episode that begins or ends with it, if one does.
        """
        bisect.insort(self.headlines, headline, key=_date_of)
        today = self.headlines[-1].date
        if self.episodes and self.episodes[-1].until is None:
            return self._end(self.episodes[-1], today)
        return self._begin(today)

    def shares(self) -> tuple[list[datetime.date], list[float]]:
        """(days, share of negative headlines in the window until then)."""
        days = sorted({each.date for each in self.headlines})
        tallies = [_count(self._window(day)) for day in days]
        return days, [each.negative / each.all for each in tallies]

    def _begin(self, today: datetime.date) -> Episode | None:
        window_headlines = self._window(today)
        base_end = today - self._rule.window_days * _DAY
        window, base = _count(window_headlines), _count(self._until(base_end))
        probability = window.probability_after(base)
        if (
            window.all < self._rule.min_in_window
            or base.all < self._rule.min_in_base
            or probability >= self._rule.alert_below
        ):
            return None
        episode = Episode(
            company=window_headlines[0].company,
            since=today,
            window=window,
            base=base,
            base_end=base_end,
            probability=probability,
            headlines=[
                each.text for each in window_headlines if _is_negative(each)
            ],
        )
        self.episodes.append(episode)
        return episode

    def _end(self, episode: Episode, today: datetime.date) -> Episode | None:
        base = _count(self._until(episode.base_end))
        probability = _count(self._window(today)).probability_after(base)
        if probability <= self._rule.calm_above:
            return None
        episode.until = today
        return episode

    def _window(self, day: datetime.date) -> list[Headline]:
        start = len(self._until(day - self._rule.window_days * _DAY))
        return self._until(day)[start:]

    def _until(self, day: datetime.date) -> list[Headline]:
        end = bisect.bisect_right(self.headlines, day, key=_date_of)
        return self.headlines[:end]


def _date_of(headline: Headline) -> datetime.date:
    return headline.date


def _is_negative(headline: Headline) -> bool:
    return headline.label == NEGATIVE


def _count(headlines: list[Headline]) -> Tally:
    return Tally(sum(map(_is_negative, headlines)), len(headlines))


def main(config: WatchConfig) -> None:
    """Labels the headlines, prints alerts, and draws the result."""
    # Imported late: --help and a wrong flag do not wait for TensorFlow.
    from bert_pretrain.finetuning import prediction
    from bert_pretrain.telemetry import console, curves

    console.quiet_libraries()
    predictor = prediction.load(config.model_dir)
    if NEGATIVE not in predictor.task.labels:
        raise errors.UserError(
            f"{config.model_dir}: the model has the labels "
            f"{', '.join(predictor.task.labels)}, and none is {NEGATIVE!r}, so "
            "there can be no alert; train with this label."
        )
    # Counts headlines by what is said of them at the end.
    counts: collections.Counter[str] = collections.Counter()
    watches = watch(config, predictor, counts)
    if not watches:
        raise errors.UserError(
            f"{config.input_file}: no line is a headline; write "
            '{"date": "YYYY-MM-DD", "company": …, "headline": …} in each line.'
        )
    write_alerts(watches, config.output_dir)
    picture = f"{config.output_dir}/sentiment.png"
    curves.write_png(draw(watches), picture)
    print(f"{picture} shows {len(watches)} companies; headlines:")
    for name, count in counts.items():
        print(f"{count:8,} {name}")


def watch(
    config: WatchConfig, predictor: Any, counts: collections.Counter[str]
) -> dict[str, CompanyWatch]:
    """Follows the input to its end, and prints alerts as they come.

    Returns:
      Companies with what is known of them.
    """
    watches: dict[str, CompanyWatch] = {}
    headlines = read_headlines(config.input_file, counts)
    while batch := list(itertools.islice(headlines, config.batch_size)):
        found = predictor.predict_texts([each.text for each in batch])
        for headline, label in zip(batch, found.labels, strict=True):
            counts["labelled"] += 1
            if headline.label:
                counts["labelled as in the file"] += headline.label == label
            company = watches.setdefault(
                headline.company, CompanyWatch(config.rule)
            )
            if company.headlines and headline.date < company.headlines[-1].date:
                counts["out of order, but sorted in"] += 1
            if episode := company.add(
                dataclasses.replace(headline, label=label)
            ):
                print(episode, flush=True)
                write_alerts(watches, config.output_dir)
    return watches


def read_headlines(
    path: str, counts: collections.Counter[str]
) -> Iterator[Headline]:
    """Yields the headlines of a file as they come.

    Lines that are no headline are counted by what is wrong; the first one of
    each kind is named in a warning.
    """
    from bert_pretrain import files

    # `splitlines` would also split at characters that texts may hold.
    lines: Iterable[str] = (
        sys.stdin if path == "-" else files.read_text(path).split("\n")
    )
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _parse(line)
        except ValueError as error:
            if str(error) not in counts:
                errors.warn(f"{path}:{number}: {error}; the line is left out.")
            counts[str(error)] += 1


def _parse(line: str) -> Headline:
    """The headline of a line; what is wrong with it is a ValueError."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    for name in ("date", "company", "headline"):
        if not isinstance(fields.get(name), str) or not fields[name].strip():
            raise ValueError(f"without a text {name!r}")
    try:
        date = datetime.date.fromisoformat(fields["date"])
    except ValueError:
        raise ValueError("with a date that is not YYYY-MM-DD") from None
    # It would make all headlines after it old.
    if date > datetime.date.today() + _DAY:
        raise ValueError("with a date in the future")
    return Headline(
        date=date,
        company=fields["company"].strip(),
        text=fields["headline"],
        label=fields.get("label"),
    )


def write_alerts(watches: Mapping[str, CompanyWatch], output_dir: str) -> None:
    """Writes all episodes so far, sorted by their beginning."""
    from bert_pretrain import files

    episodes = itertools.chain.from_iterable(
        each.episodes for each in watches.values()
    )
    lines = [
        json.dumps(dataclasses.asdict(each), default=str, ensure_ascii=False)
        for each in sorted(episodes, key=lambda each: each.since)
    ]
    files.write_text(
        f"{output_dir}/alerts.jsonl", "".join(f"{line}\n" for line in lines)
    )


def draw(watches: Mapping[str, CompanyWatch]) -> Any:
    """A figure with a panel for each company: shares, headlines, episodes."""
    from matplotlib import dates, figure, ticker

    drawn = figure.Figure(
        figsize=(9, 1.7 * len(watches) + 0.6), layout="constrained"
    )
    all_axes = drawn.subplots(len(watches), sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(all_axes, sorted(watches), strict=True):
        company = watches[name]
        axes.plot(*company.shares(), color="black", linewidth=1.2)
        for height, (label, color) in enumerate(_COLORS.items()):
            days = [e.date for e in company.headlines if e.label == label]
            # Headlines of a day must not hide one another.
            heights = [-0.08 - 0.06 * height] * len(days)
            axes.plot(days, heights, "|", color=color, label=label)
        for episode in company.episodes:
            end = episode.until or company.headlines[-1].date
            axes.axvspan(episode.since, end, color="tab:red", alpha=0.15)
            axes.axvline(episode.since, color="tab:red", label="alert")
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_ylim(-0.27, 1.05)
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1))
        axes.spines[["top", "right"]].set_visible(False)
    locator = dates.AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    drawn.suptitle("Share of negative headlines in the window")
    handles = {
        label: handle
        for axes in all_axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    drawn.legend(
        handles.values(),
        handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
    )
    return drawn


if __name__ == "__main__":
    command_line.run(main, WatchConfig)
