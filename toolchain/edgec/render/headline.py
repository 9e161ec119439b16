"""The page's first words: whether the bundle may ship, and which classes lost more than chance explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgec.core.measurement import Stage
from edgec.core.wording import format_amount, join_names, measure_title
from edgec.evaluate.gates import GateResult, Verdict
from edgec.evaluate.loss import loss_text
from edgec.evaluate.report import Report
from edgec.evaluate.significance import ALPHA, holm

__all__ = ["Headline", "gate_text", "headline_of", "lost_classes"]

_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Headline:
    """What stands above everything else.

    Attributes:
        state: Its sign and colour.
        title: The verdict in a few words.
        meaning: What follows from it, in a sentence.
        losses: Which classes lost, in a sentence; empty where pairs with the teacher are not known.
        warning: What is wrong with the teacher; empty where it is as it should be.
    """

    state: Verdict
    title: str
    meaning: str
    losses: str
    warning: str = ""


def headline_of(report: Report, gates: Sequence[GateResult]) -> Headline:
    """The verdict on a report, by the results of its gates; what was lost against FP32 comes before it."""
    headline = _with_warning(report, _of_gates(report, gates))
    if report.loss is None:
        return headline
    state = Verdict.INCONCLUSIVE if headline.state is Verdict.PASS else headline.state
    title = f"{report.loss.headline}. {headline.title}"
    return replace(headline, state=state, title=title, losses=f"{headline.losses} {loss_text(report.loss)}.".strip())


def _with_warning(report: Report, headline: Headline) -> Headline:
    """Whatever the gates say: what comes of a bad teacher is no better than it."""
    warning = report.teacher and report.teacher.warning
    if not warning:
        return headline
    state = Verdict.INCONCLUSIVE if headline.state is Verdict.PASS else headline.state
    title = f"Look at the teacher first. {headline.title}"
    return replace(headline, state=state, title=title, warning=f"{warning[0].upper()}{warning[1:]}.")


def _of_gates(report: Report, gates: Sequence[GateResult]) -> Headline:
    fails = [result for result in gates if result.verdict is Verdict.FAIL]
    doubts = [result for result in gates if result.verdict is Verdict.INCONCLUSIVE]
    losses = _losses(report)
    if not gates:
        meaning = "Nothing says yet what is good enough: name limits under [gates], or give them to edgec check."
        return Headline(state=Verdict.INCONCLUSIVE, title="No gates were set", meaning=meaning, losses=losses)
    blocking = [result for result in gates if result.blocks]
    if fails:
        more = f", {len(doubts)} inconclusive" if doubts else ""
        title = f"Fails {len(fails)} of {len(gates)} checks{more}"
        return Headline(state=Verdict.FAIL, title=title, meaning=_stopped(blocking), losses=losses)
    if doubts:
        title = f"{len(doubts)} of {len(gates)} checks inconclusive"
        meaning = _stopped(blocking) if blocking else "Nothing is proven against it: edgec check lets it through."
        return Headline(state=Verdict.INCONCLUSIVE, title=title, meaning=meaning, losses=losses)
    title = f"Passes all {len(gates)} checks" if len(gates) > 1 else "Passes its one check"
    return Headline(state=Verdict.PASS, title=title, meaning="edgec check lets it through.", losses=losses)


def gate_text(result: GateResult) -> str:
    """`worst class 'cat': 61.0 %, asked ≥ 70.0 %`."""
    measure = result.name.partition("_")[2]
    sign = "≥" if result.name.startswith("min_") else "≤"
    name = measure_title(measure)
    what = name[0].lower() + name[1:] + (f" '{result.label}'" if result.label else "")
    found = "unknown" if result.value is None else format_amount(measure, result.value)
    return f"{what}: {found}, asked {sign} {format_amount(measure, result.limit)}"


def _stopped(blocking: Sequence[GateResult]) -> str:
    if not blocking:
        return "Nothing blocks it: edgec check lets it through."
    named = "; ".join(map(gate_text, blocking[:_NAMED]))
    more = f"; and {len(blocking) - _NAMED} more" if len(blocking) > _NAMED else ""
    return f"edgec check stops it: {named}{more}."


def lost_classes(report: Report) -> list[str] | None:
    """Classes that lost against the teacher, by the exact McNemar test with Holm's correction over all classes.

    Returns:
        Those with the largest loss first; None where nothing is known in pairs.
    """
    tests = report.by_class(Stage.ARTIFACT, "accuracy_drop_p")
    drops = report.by_class(Stage.ARTIFACT, "accuracy_drop")
    if not tests:
        return None
    corrected = dict(zip(tests, holm([row.value for row in tests.values()]), strict=True))
    lost = [label for label, p in corrected.items() if p <= ALPHA and drops[label].value > 0]
    return sorted(lost, key=lambda label: -drops[label].value)


def _losses(report: Report) -> str:
    lost = lost_classes(report)
    if lost is None:
        return ""
    if not lost:
        return "No class lost more against the teacher than chance explains."
    verb = "lose" if len(lost) > 1 else "loses"
    names = join_names(lost, most=_NAMED)
    return f"{len(lost)} of {len(report.labels)} classes {verb} more against the teacher than chance explains: {names}."
