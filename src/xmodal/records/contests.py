"""Who is better, by how much, and is it sure: setups ranked within their contest, and variants against their base."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from xmodal.records.record import PER_RUN, mixed_sources
from xmodal.records.setups import MEASURES, Setup, differences, intervals, is_plain
from xmodal.significance import Interval, SeededTest, holm

Tests = dict[tuple[Setup, Setup], dict[str, SeededTest] | None]
Changes = tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, eq=False)
class Row:
    """A setup in its contest.

    Args:
        setup: the runs.
        intervals: of their measures over the queries, if the runs kept per-query values.
        behind: for each of `MEASURES`, the best minus this setup, p adjusted by Holm for all rows of the contest;
            None for the best itself, and where no test is possible.
    """

    setup: Setup
    intervals: Mapping[str, Interval] | None
    behind: Mapping[str, SeededTest | None]


@dataclass(frozen=True, eq=False)
class Contest:
    """All untouched setups (`base`, `tuned`, `tuned-at-<size>`) of one protocol, kind and size, by falling mAP.

    Args:
        rows: one a setup.
        ranking: for each of `MEASURES`, one row a method, the one that validates best, by falling measure.
    """

    rows: tuple[Row, ...]
    ranking: Mapping[str, tuple[Row, ...]]

    @property
    def setup(self) -> Setup:
        """Any of the setups: protocol, kind and size are those of all."""
        return self.rows[0].setup


@dataclass(frozen=True, eq=False)
class Ablation:
    """A variant against its base.

    Args:
        setup: the variant's runs.
        test: variant minus base, p adjusted by Holm for all variants of the base; None where no test is possible.
        changes: setting, value in the base and value in the variant.
    """

    setup: Setup
    test: SeededTest | None
    changes: Changes


def contests(setups: Iterable[Setup]) -> list[Contest]:
    """Rank the untouched ones among the setups, which come as `by_setup` sorts them."""
    plain = (each for each in setups if is_plain(each.variant))
    by_contest = [tuple(each) for _, each in groupby(plain, lambda setup: setup.contest)]
    every = [each for ranked in by_contest for each in ranked]
    sure = dict(zip(every, intervals(every), strict=True))
    ranks = {ranked: {measure: _methods(ranked, measure) for measure in MEASURES} for ranked in by_contest}
    pairs = {(rank[0], each): None for ranked in by_contest for rank in ranks[ranked].values() for each in ranked}
    tests: Tests = dict(zip(pairs, differences(list(pairs)), strict=True))
    found = []
    for ranked in by_contest:
        behind = {measure: _behind(rank[0], ranked, measure, tests) for measure, rank in ranks[ranked].items()}
        rows = {
            each: Row(each, sure[each], {measure: behind[measure][each] for measure in MEASURES}) for each in ranked
        }
        ranking = {measure: tuple(rows[each] for each in rank) for measure, rank in ranks[ranked].items()}
        found.append(Contest(tuple(rows.values()), ranking))
    return found


def ablations(setups: Sequence[Setup]) -> list[tuple[Setup | None, list[Ablation]]]:
    """Every base with its variants, by rising mAP: what hurts most when it is taken away comes first.

    The base of a variant is the untouched setup of the same method and contest that it departs from in the fewest
    settings, of equally many the one that validates best; None where there is no such run.
    """
    plain: dict[tuple[object, str], list[Setup]] = defaultdict(list)
    for each in setups:
        if is_plain(each.variant):
            plain[each.contest, each.method].append(each)
    found: dict[tuple[object, str, Setup | None], list[tuple[Setup, Changes]]] = defaultdict(list)
    for each in setups:
        if not is_plain(each.variant):
            near = [(base, changes(base, each)) for base in plain[each.contest, each.method]]
            base, changed = min(near, key=lambda pair: (len(pair[1]), standing(pair[0])), default=(None, ()))
            found[each.contest, each.method, base].append((each, changed))
    pairs = [(each, base) for (_, _, base), rows in found.items() if base for each, _ in rows]
    tests = {each: test for (each, _), test in zip(pairs, differences(pairs), strict=True)}
    listed = []
    for (_, _, base), rows in found.items():
        adjusted = _adjusted({each: (tests.get(each) or {}).get("map") for each, _ in rows})
        order = sorted(rows, key=lambda row: row[0].score)
        listed.append((base, [Ablation(each, adjusted[each], changed) for each, changed in order]))
    return listed


def notes(setups: Sequence[Setup]) -> list[str]:
    """What is not the same throughout, in a sentence each: versions, inputs and code, trials, and values by command."""
    mixed = mixed_sources(record for each in setups for record in each.records)
    return [note for note in (mixed, _budgets(setups), _overridden(setups)) if note]


def _budgets(setups: Iterable[Setup]) -> str:
    """A sentence on contests in which settings were searched in several numbers of trials; or nothing."""
    found: dict[str, dict[str, set[int]]] = defaultdict(dict)
    for each in setups:
        said = {record["trials"] for record in each.records if isinstance(record.get("trials"), int)}
        if said and is_plain(each.variant):  # older records do not say
            found[f"{each.dataset} at {each.sized}"].setdefault(each.method, set()).update(said)
    mixed = list[str]()
    for place, methods in found.items():
        if len(set().union(*methods.values())) > 1:
            each_in = (f"{name} in {' and '.join(map(str, sorted(own)))}" for name, own in sorted(methods.items()))
            mixed.append(f"on {place} {', '.join(each_in)}")
    return f"Not all were tuned in as many trials: {'; '.join(mixed)}." if mixed else ""


def _overridden(setups: Iterable[Setup]) -> str:
    """A sentence on competing setups with values that a command gave, and not the files of their method; or nothing."""
    found = list[str]()
    for each in setups:
        said = [record.get("overrides", {}) for record in each.records]  # older records say none
        given = {f"{key} {value}" for every in said for key, value in every.items()}
        if given and is_plain(each.variant):
            found.append(f"{each.method} {each.variant} (setup {each.setup_hash}) {', '.join(sorted(given))}")
    return f"Not as the files of their method say, but by command: {'; '.join(found)}." if found else ""


def changes(base: Setup, other: Setup) -> Changes:
    """Settings in which two setups differ: key, value of the base, value of the other; an absent one is empty."""
    first, second = base.settings, other.settings
    return tuple(
        (key, first.get(key, ""), second.get(key, ""))
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key) and key not in PER_RUN
    )


def _methods(ranked: Sequence[Setup], measure: str) -> list[Setup]:
    """One setup a method, the one that validates best, by falling measure."""
    champions: dict[str, Setup] = {}
    for each in sorted(ranked, key=standing):
        champions.setdefault(each.method, each)
    return sorted(champions.values(), key=lambda each: -_mean(each, f"test/{measure}"))


def standing(setup: Setup) -> tuple[float, bool, str]:
    """What one of several setups is chosen by, the lowest first: falling `val/map` over the seeds; never by a test."""
    return -_mean(setup, "val/map"), setup.variant != "tuned", setup.setup_hash


def _mean(setup: Setup, metric: str) -> float:
    spread = setup.spread(metric)
    return spread.mean if spread else float("-inf")


def _behind(best: Setup, ranked: Sequence[Setup], measure: str, tests: Tests) -> dict[Setup, SeededTest | None]:
    others = {each: (tests[best, each] or {}).get(measure) for each in ranked if each is not best}
    return {best: None, **_adjusted(others)}


def _adjusted(tests: Mapping[Setup, SeededTest | None]) -> dict[Setup, SeededTest | None]:
    """The tests with Holm's p-values."""
    made = {each: test for each, test in tests.items() if test is not None}
    p_values = holm([test.p_value for test in made.values()])
    sure = {each: test._replace(p_value=p) for (each, test), p in zip(made.items(), p_values, strict=True)}
    return {each: sure.get(each) for each in tests}
