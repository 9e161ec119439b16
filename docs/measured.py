"""What README and docs say that was measured: by part, from which rows of `benchmarks/results`."""

from __future__ import annotations

import re
from collections.abc import Callable

from figures import (
    RESULTS,
    Column,
    Line,
    command_of,
    count,
    figure,
    interval_over_seeds,
    lines,
    markdown,
    percent,
    percent_alone,
    plain_number,
    points,
    require_measured,
    seconds,
    source,
    subjects,
    table,
    times,
)

from rows import read_runs  # found by figures

__all__ = ["COMMANDS", "PARTS"]

COMMANDS = {
    "digits": "python benchmarks/build.py --seeds 6",
    "gaps": "python benchmarks/gaps.py",
    "gains": "python benchmarks/gains.py cifar10-resnet20 --samples 50 10 --set compress.steps=150",
    "ablation": "python benchmarks/ablation.py cifar10-resnet20 --steps 300 --seeds 0 1",
    "chain": "python benchmarks/gains.py cifar10-resnet20 --variants one-cut two-cuts --set compress.keep_flops=0.25",
    "exported": "python benchmarks/exported.py --config cifar10-resnet56 --only u8s8 s8s8 --set compress.method=none",
    "gate_errors": "python benchmarks/gate_errors.py --bundles 1000",
    "gates": "python benchmarks/gates.py --plot docs/images/gates.svg",
    "deck": "python benchmarks/deck.py cifar10-resnet20 fashion-resnet8 --shares 0.3 0.5",
    "family": "python benchmarks/family.py",
    "fuzz": "python benchmarks/fuzz --seconds 60",
    "hostile_graphs": "python benchmarks/hostile_graphs.py",
    "latency": "python benchmarks/latency_model.py",
    "latency_budget": "python benchmarks/latency_budget.py cifar10-resnet20 --target jetson --set compress.steps=100",
    "mutations": "python benchmarks/mutations.py --count 5000",
    "hostile_peers": "python benchmarks/hostile_peers.py",
    "hostile_clients": "python benchmarks/hostile_clients.py",
    "pixels": "python benchmarks/pixels.py",
    "robust": "python benchmarks/robust.py cifar10-resnet20",
    "zoo": "python benchmarks/zoo.py",
    "learngene": "python benchmarks/learngene.py fashion-vit",
    "long_tail": "python benchmarks/long_tail.py digits",
    "priors": "python benchmarks/priors.py digits digits:20:800 digits:50:800 digits:100:800 fashion-resnet8",
    "tuning": "python benchmarks/tuning.py cifar10-resnet20 --trials 8 --set compress.steps=150",
    "several_teachers": "python benchmarks/several_teachers.py sizes --set compress.steps=100",
    "tailed": "python benchmarks/tailed.py fashion-resnet8 --teacher-steps 1500 --set compress.steps=300",
}
"""What writes each file of results, with `--output benchmarks/results/FILE.json` behind it."""
_TEMPERATURE = re.compile(
    r"temperature of (?P<by>[\d.]+), fitted to the teacher: calibration error (?P<before>[\d.]+ %) without it, "
    r"(?P<after>[\d.]+ %) with it, (?P<teacher>[\d.]+ %) of the teacher"
)
SAME_CLASS = 0.999
"""Share of the images to which a graph must give the class of the model as given."""
REFUSED_S = 5.0
_SAID = {
    "silent": "nothing",
    "told": "that something was lost, and where",
    "told, no place": "that something was lost",
}
_STAGES = {
    "teacher": "the classifier that was given",
    "baseline": "plain",
    "compressed": "compressed",
    "artifact": "artifact, int8",
}
_ACCURACIES = (
    Column(head="accuracy", quantity="accuracy", form=percent),
    Column(head="worst class", quantity="worst_class_accuracy", form=percent),
    Column(head="macro F1", quantity="macro_f1", form=percent),
)


def _demonstration() -> str:
    """What the command printed, without its notes."""
    require_measured("digits")
    printed = (RESULTS / "digits.txt").read_text(encoding="utf-8").partition("\nnote:")[0]
    text = "\n".join(line.rstrip() for line in printed.splitlines())
    return f"```text\n{text}\n```"


def _temperature() -> str:
    """What the command said of the calibration error."""
    require_measured("digits")
    printed = " ".join((RESULTS / "digits.txt").read_text(encoding="utf-8").split())
    found = _TEMPERATURE.search(printed)
    if found is None:
        raise KeyError("digits.txt says nothing of a temperature")
    images = figure("digits", "digits: test images", lambda row: f"{row.value:.0f}")
    return (
        f"`edgec build` of the digits, seed 0: {found['before']} without it, {found['after']} with it (temperature "
        f"{found['by']}), {found['teacher']} of the teacher, n = {images}. {source('digits')}"
    )


def _numbers() -> str:
    """Three figures for the front page, each beside its counterpart and with its command."""
    demonstration = _number(
        "digits",
        ("digits: artifact: worst_class_accuracy", "digits: baseline: worst_class_accuracy"),
        "of the images of the worst class are right in the demonstration's int8 model; plain compression keeps {}",
    )
    cifar = _number(
        "gains",
        (f"{_CIFAR}: ours: worst class", f"{_CIFAR}: few: worst class"),
        "of the images of CIFAR-10's worst class are right in a ResNet-20 with half of its multiply-adds, from 50 "
        "labelled images; without the unlabelled ones {}",
    )
    gate = _number(
        "gates",
        tuple(f"regression, 0 points allowed, confident: {lost} points lost" for lost in (10, 0)),
        "of simulated models that lost 10 points in one class (10 classes, 200 test images each) are stopped by the "
        "gate against regressions; of those that lost nothing, {} are stopped by chance",
    )
    return f"{demonstration}\n{cifar}\n{gate}"


def _number(file: str, whats: tuple[str, ...], text: str) -> str:
    first, second = (figure(file, what, percent) for what in whats)
    share, _, spread = first.partition(" (")
    return f"- **{share}** ({spread} {text.format(second)}: `{command_of(file, whats[0])}`"


def _latency_error() -> str:
    parts = []
    for held_out, what in (("families", "families of nets"), ("devices", "devices")):
        for runtime, devices in (("tensorrt", "Jetsons"), ("cpu", "Arm and x86 CPUs")):
            median, worst, hits = (
                figure("latency", f"{runtime}: {held_out} left out: {name}", percent_alone)
                for name in ("median error", "worst error", "within 10 %")
            )
            parts.append((what, devices, f"{median} %", f"{worst} %", f"{hits} %"))
    head = ("held out", "on", "median error", "worst error", "within 10 %")
    return (
        "Latencies on devices that are not at hand are predicted, with an interval. The model was tested on families\n"
        "of nets and on devices that were held out of the fit:\n\n"
        f"{markdown(head, parts)}"
    )


def _gates() -> str:
    return table("gates", by=("gate, what it allows, policy",), columns=_lost(percent_alone))


def _gate_errors() -> str:
    """A line for each kind of gate, a column for each size of bundle: false alarms and false proofs."""
    shapes = tuple(f"{classes} classes of {images}" for classes in (10, 100) for images in (50, 500))

    def cell(kind: str, shape: str) -> str:
        wrong = (figure("gate_errors", f"{kind}: {shape}: false {what}", percent_alone) for what in ("alarm", "proof"))
        return "; ".join(wrong)

    body = [(kind, *(cell(kind, shape) for shape in shapes)) for kind in subjects("gate_errors")]
    return f"{markdown(('gate on', *shapes), body)}\n\n{source('gate_errors')}"


def _lost(form: Callable) -> tuple[Column, ...]:
    return tuple(
        Column(head=f"{lost} points lost", quantity=f"{lost} points lost", form=form) for lost in (0, 2, 5, 10)
    )


def _latency() -> str:
    columns = (
        Column(head="median error", quantity="median error", form=percent),
        Column(head="worst", quantity="worst error", form=percent_alone),
        Column(head="within 10 %", quantity="within 10 %", form=percent_alone),
        Column(head="within the 95 % interval", quantity="within the interval", form=percent_alone),
    )
    return table(
        "latency", by=("runtime", "rows"), columns=columns, titles={"tensorrt": "TensorRT", "cpu": "CPU, ncnn"}
    )


def _gate_line(gate: str, what: str) -> Line:
    return Line(
        what=f"gate of {what}, policy `confident`, 10 classes of 200 images: blocked when no class is worse; when one "
        "class lost 10 points",
        file="gates",
        figures=[(f"{gate} points allowed, confident: {lost} points lost", percent) for lost in (0, 10)],
    )


_CIFAR = "cifar10-resnet20 compress.steps=150: 50 samples"
HEADLINES = (
    Line(
        what="demonstration, int8: accuracy; worst class",
        file="digits",
        figures=[(f"digits: artifact: {name}", percent) for name in ("accuracy", "worst_class_accuracy")],
    ),
    Line(
        what="demonstration, plain compression, FP32: accuracy; worst class",
        file="digits",
        figures=[(f"digits: baseline: {name}", percent) for name in ("accuracy", "worst_class_accuracy")],
    ),
    Line(
        what="CIFAR-10, ResNet-20, half of the multiply-adds, 50 samples (imbalance 19), FP32: accuracy; worst class",
        file="gains",
        figures=[(f"{_CIFAR}: ours: {name}", percent) for name in ("accuracy", "worst class")],
    ),
    Line(
        what="CIFAR-10, ResNet-20, half of the multiply-adds, 50 samples (imbalance 19), without OOD images, FP32: "
        "accuracy; worst class",
        file="gains",
        figures=[(f"{_CIFAR}: few: {name}", percent) for name in ("accuracy", "worst class")],
    ),
    Line(
        what="CIFAR-10, ResNet-56, int8 against its FP32: accuracy lost; most lost by a class",
        file="exported",
        figures=[("u8s8: top-1 lost", points), ("u8s8: most lost by a class", points)],
    ),
    _gate_line("regression, 0", "no regression"),
    _gate_line("regression, 5", "at most 5 points of regression"),
    _gate_line("floor, 0", "a floor at what every class has"),
    _gate_line("floor, 5", "a floor 5 points below what every class has"),
    Line(
        what="bundles that were damaged, cut, swapped or made up: accepted; crashed; wrote outside or ran code",
        file="mutations",
        figures=[(f"all: {what}", count) for what in ("accepted", "crashed", "wrote outside or ran code")],
    ),
)


def _variants(file: str) -> str:
    columns = (
        Column(head="top-1", quantity="accuracy", form=interval_over_seeds),
        Column(head="worst class", quantity="worst class", form=interval_over_seeds),
        Column(head="largest class drop", quantity="largest class drop", form=interval_over_seeds),
    )
    return table(file, by=("set", "samples", "variant"), columns=columns)


def _latency_budget() -> str:
    columns = (
        Column(head="top-1", quantity="accuracy", form=interval_over_seeds),
        Column(head="worst class", quantity="worst class", form=interval_over_seeds),
        Column(head="ms", quantity="latency", form=lambda row: f"{row.value:.4f}"),
        Column(head="multiply-adds kept", quantity="kept multiply-adds", form=percent_alone),
        Column(head="blocks gone", quantity="blocks dropped", form=lambda row: f"{row.value:.1f}"),
    )
    return table("latency_budget", by=("set, target and rival", "student"), columns=columns)


def _family() -> str:
    columns = (
        Column(
            head="seconds", quantity="seconds", form=lambda row: f"{row.value:.0f} ({row.low:.0f} to {row.high:.0f})"
        ),
        Column(head="top-1", quantity="accuracy", form=interval_over_seeds),
        Column(head="worst class", quantity="worst class accuracy", form=interval_over_seeds),
    )
    return table("family", by=("set", "targets", "what", "built"), columns=columns)


def _learngene() -> str:
    """Nets of fewer layers by where these come from, before and after recovery."""
    columns = tuple(
        Column(head=f"{measure}, {when}", quantity=f"{measure} {when}", form=interval_over_seeds)
        for when in ("at once", "recovered")
        for measure in ("top-1", "worst class")
    )
    return table("learngene", by=("set", "samples", "layers left", "from"), columns=columns)


def _gaps() -> str:
    columns = tuple(
        Column(head=what, quantity=what, form=lambda row: f"{row.value:.2f} ({row.low:.2f} to {row.high:.2f})")
        for what in ("as they are", "restyled")
    )
    return table("gaps", by=("set", "samples"), columns=columns)


def _hostile() -> str:
    lost = {"quantity": "accuracy lost"}
    columns = (
        Column(head="accuracy lost in int8, points", form=lambda row: f"{row.value:.1f} (n = {row.n})", **lost),
        Column(head="what the build says", form=lambda row: _SAID[row.against or ""], **lost),
    )
    return table("hostile_graphs", by=("trait",), columns=columns)


def _mutations() -> str:
    columns = [Column(head=what, quantity=what, form=count) for what in ("refused", "accepted", "crashed")]
    slowest, computed, memory = (
        figure("mutations", what, form)
        for what, form in (
            ("all: slowest", seconds),
            ("all: most computed", seconds),
            ("with a key: most memory taken", lambda row: f"{row.value:.1f} MiB (n = {row.n:,})"),
        )
    )
    return (
        f"{table('mutations', by=('kind',), columns=columns)}\n\n"
        f"The slowest took {slowest} by the clock, on a machine that did other work as well, and the most that one\n"
        f"computed is {computed}. With a key a mutant took at most {memory} of memory beside what the process had."
    )


def _hostile_clients() -> str:
    """Each kind with the honest clients' 99th percentile, and what is told of all together."""
    require_measured("hostile_clients")
    rows = [row for run in read_runs(RESULTS / "hostile_clients.json") for row in run.rows]
    body = [
        (row.what, f"{row.value:.3g} {row.unit.partition(',')[0]}", times(row) if row.ratio else "", f"{row.n:,}")
        for row in rows
    ]
    return f"{markdown(('beside', 'found', 'against alone', 'n'), body)}\n\n{source('hostile_clients')}"


def _hostile_peers() -> str:
    """Both halves of the rows' names, and how many of how many."""
    require_measured("hostile_peers")
    rows = [row for run in read_runs(RESULTS / "hostile_peers.json") for row in run.rows]
    body = [(row.what, count(row) if not row.unit else f"{row.value:.0f} {row.unit}") for row in rows]
    return f"{markdown(('what', 'found'), body)}\n\n{source('hostile_peers')}"


def _pixels() -> str:
    columns = tuple(
        Column(head=f"{quantity}, of 255", quantity=quantity, form=lambda row: f"{row.value:.2g}")
        for quantity in ("largest difference", "mean difference")
    )
    return table("pixels", by=("library", "settings"), columns=columns)


def _zoo() -> str:
    """A line for each library: how many build and agree for each target, and what does not."""
    require_measured("zoo")
    rows = [row for run in read_runs(RESULTS / "zoo.json") for row in run.rows]
    built = [row for row in rows if row.unit == "same class"]
    targets = tuple(dict.fromkeys(row.what.rpartition(": ")[2] for row in built))
    groups = tuple(dict.fromkeys(row.what.partition(": ")[0] for row in built))

    def cell(group: str, target: str) -> str:
        found = [row for row in built if row.what.startswith(f"{group}: ") and row.what.endswith(f": {target}")]
        failed = [row.what.split(": ")[1] for row in found if row.value < SAME_CLASS]
        return f"{len(found) - len(failed)} of {len(found)}" + (f" (not {', '.join(failed)})" if failed else "")

    body = [(group, *(cell(group, target) for target in targets)) for group in groups]
    refused = [row for row in rows if row.unit == "s, processor"]
    in_time = [row for row in refused if 0 < row.value <= REFUSED_S]
    longest = max((row.value for row in in_time), default=0.0)
    told = (
        f"{len(in_time)} of {len(refused)} files and targets that do not fit were refused in words within "
        f"{REFUSED_S:g} s of processor time; the slowest took {longest:.1f} s."
    )
    return f"{markdown(('from', *targets), body)}\n\n{told} {source('zoo')}"


def _fuzz() -> str:
    columns = [
        Column(head=what, quantity=what, form=lambda row: f"{row.value:,.0f}") for what in ("inputs", "findings")
    ]
    return table("fuzz", by=("reader",), columns=columns)


def _tailed() -> str:
    """Accuracies, and what the adjustment brings in pairs of the same seed."""
    columns = tuple(
        Column(head=head, quantity=head, form=interval_over_seeds) for head in ("accuracy", "tail", "worst class")
    )
    by = ("set", "imbalance of training", "classifier", "`model.trained_on`")
    return table("tailed", by=by, columns=columns)


def _long_tail() -> str:
    """Accuracies of teachers and students, and LTKD's differences in pairs of the same seed."""
    columns = (
        Column(head="seeds", quantity="accuracy", form=lambda row: str(row.n)),
        *(Column(head=head, quantity=head, form=interval_over_seeds) for head in ("accuracy", "tail", "worst class")),
    )
    return table("long_tail", by=("set", "nets", "learned from"), columns=columns)


def _several_teachers() -> str:
    """Teachers and students, and what a second teacher brings in pairs of the same seed."""
    columns = (
        Column(head="seeds", quantity="accuracy", form=lambda row: str(row.n)),
        *(Column(head=head, quantity=head, form=interval_over_seeds) for head in ("accuracy", "worst class")),
    )
    titles = {
        "features": "student: features alone",
        "alone": "student: features, and logits of the teacher that is compressed",
        "mean": "student: features, and the mean of both teachers",
        "attention": "student: features, and both teachers by attention",
    }
    return table("several_teachers", by=("set", "classifier"), columns=columns, titles=titles)


def _priors() -> str:
    """What shifting the teacher's logits adds, by what told the frequencies."""
    columns = tuple(
        Column(head=f"{head}, points", quantity=head, form=interval_over_seeds)
        for head in ("accuracy", "tail", "worst class")
    )
    used = Column(head="used, % of seeds", quantity="used", form=percent_alone)
    by = ("set", "training", "few samples", "frequencies")
    return table("priors", by=by, columns=(*columns, used), titles={"as given": "none: as given, %"})


_ROBUST = (
    Column(head="clean", quantity="clean", form=interval_over_seeds),
    Column(head="worst class, clean", quantity="worst class, clean", form=interval_over_seeds),
)


def _robust() -> str:
    """Students by what they saw, beside their teacher."""
    columns = (
        *_ROBUST,
        Column(head="corrupted", quantity="corrupted accuracy", form=interval_over_seeds),
        Column(head="worst class, corrupted", quantity="corrupted worst class accuracy", form=interval_over_seeds),
        Column(
            head="kinds unseen by `mixed`", quantity="accuracy under unseen by mixed kinds", form=interval_over_seeds
        ),
    )
    return table("robust", by=("set", "steps", "images", "student"), columns=columns)


def _deck() -> str:
    """Decks beside their members and the teacher."""
    columns = (
        *_ROBUST,
        Column(head="corrupted", quantity="corrupted", form=interval_over_seeds),
        Column(head="worst class, corrupted", quantity="worst class, corrupted", form=interval_over_seeds),
        Column(head="unseen kinds", quantity="unseen kinds", form=interval_over_seeds),
        Column(
            head="latency, of the slowest member's",
            quantity="latency over a member's",
            form=lambda row: f"{row.value:.2f} × ({row.low:.2f} to {row.high:.2f})",
        ),
    )
    return table("deck", by=("set", "steps and images", "members", "model"), columns=columns)


def _ablation() -> str:
    """How far candidates agree with their teacher on images that nobody learned from."""
    columns = (
        Column(head="agreement", quantity="agreement", form=percent),
        Column(head="worst class", quantity="worst class", form=percent),
    )
    return table("ablation", by=("set", "steps", "candidate"), columns=columns)


def _tuning() -> str:
    columns = (
        Column(head="rank correlation with test images", quantity="rank correlation", form=plain_number),
        Column(head="latency of the chosen, of the own build's", quantity="chosen, latency", form=times),
        Column(head="least latency at that drop, by test images", quantity="best by test images, latency", form=times),
        Column(head="largest drop of a class, own build", quantity="own, largest drop of a class", form=percent_alone),
        Column(head="of the chosen", quantity="chosen, largest drop of a class", form=percent_alone),
    )
    return table("tuning", by=("set", "device", "seed"), columns=columns)


def _int8() -> str:
    columns = (
        Column(head="accuracy lost, points", quantity="top-1 lost", form=percent_alone),
        Column(head="most lost by a class, points", quantity="most lost by a class", form=percent_alone),
    )
    return table("exported", by=("format",), columns=columns)


def _commands() -> str:
    rows = [
        (f"`{file}.json`", f"`{command} --output benchmarks/results/{file}.json`") for file, command in COMMANDS.items()
    ]
    return markdown(("file", "command"), rows)


PARTS: dict[str, Callable[[], str]] = {
    "demonstration": _demonstration,
    "headlines": lambda: lines(HEADLINES),
    "latency-error": _latency_error,
    "numbers": _numbers,
    "pixels": _pixels,
    "results-commands": _commands,
    "results-ablation": _ablation,
    "results-chain": lambda: _variants("chain"),
    "results-several-teachers": _several_teachers,
    "results-gains": lambda: _variants("gains"),
    "results-digits": lambda: table("digits", by=("classifier",), under="digits", columns=_ACCURACIES, titles=_STAGES),
    "results-gate-errors": _gate_errors,
    "results-gates": _gates,
    "results-hostile": _hostile,
    "results-int8": _int8,
    "results-latency": _latency,
    "results-learngene": _learngene,
    "results-long-tail": _long_tail,
    "results-latency-budget": _latency_budget,
    "results-mutations": _mutations,
    "results-priors": _priors,
    "results-robust": _robust,
    "results-tailed": _tailed,
    "results-temperature": _temperature,
    "results-tuning": _tuning,
    "results-hostile-peers": _hostile_peers,
    "results-deck": _deck,
    "results-family": _family,
    "results-fuzz": _fuzz,
    "results-gaps": _gaps,
    "results-hostile-clients": _hostile_clients,
    "zoo": _zoo,
}
