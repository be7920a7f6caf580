"""The command line: one subcommand per job; `attention-collapse --help` lists them."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir, nullcontext
from pathlib import Path
from typing import Any

from attention_collapse.errors import AttentionCollapseError, ParamsError, PipelineError
from attention_collapse.explain import explained
from attention_collapse.options import command_parser
from attention_collapse.repository.root import find_root
from attention_collapse.streams import readable_streams


def _model(arguments: argparse.Namespace) -> Any:
    """What `--model` names together with what is said of it beside; None where no model is asked for."""
    from attention_collapse.models.naming import Asked, resolve

    if arguments.model is None:
        return None
    said = Asked(arguments.kind, arguments.architecture, arguments.revision, arguments.adapter)
    return resolve(arguments.model, said)


def _result_file(out: Path | None, model: Any) -> Path | None:
    """Where a result goes as JSON, known before anything is computed."""
    from attention_collapse.arguments import output_file
    from attention_collapse.inputs import model_folders

    return output_file("out", out, keep_out=model_folders(model))


def _diagnose(arguments: argparse.Namespace) -> int:
    if arguments.quiet or not sys.stderr.isatty():  # the hub's bars would fill a log; read when its library is imported
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from attention_collapse.diagnosis import diagnose
    from attention_collapse.inputs import model_folders
    from attention_collapse.report.diagnosis import Outputs

    model = _model(arguments)
    places = (arguments.out, arguments.per_pair, arguments.plots)
    outputs = Outputs.of(*places, keep_out=model_folders(model))  # checked before anything is computed
    result = diagnose(
        model, arguments.pairs, n=arguments.n, seed=arguments.seed, rows=arguments.rows,
        device=arguments.device, batch_size=arguments.batch_size, partners=arguments.partners,
        t_shap_protocol=arguments.t_shap_protocol, t_shap_images=arguments.t_shap_images,
        strict=arguments.strict, max_unknown=arguments.max_unknown, work=arguments.work,
        engine=_engine(arguments), progress=not arguments.quiet, **_of_source(arguments),
    )  # fmt: skip
    _print_then_write(result.text(), lambda: result.save(outputs))
    return 0


def _engine(arguments: argparse.Namespace) -> dict[str, Any]:
    """Who runs it, of what was said."""
    given = {name: getattr(arguments, name) for name in ("address", "actors", "gpus")}
    return {"kind": arguments.engine} | {name: value for name, value in given.items() if value is not None}


def _of_source(arguments: argparse.Namespace) -> dict[str, Any]:
    """How a source of pairs is read, of what the command takes."""
    names = ("split", "columns", "images", "foils")
    return {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}


def _pairs(arguments: argparse.Namespace) -> int:
    from attention_collapse.data.convert import convert_pairs
    from attention_collapse.data.source import recognise
    from attention_collapse.progress import told
    from attention_collapse.report.pairs import converted, shown

    wanted = _of_source(arguments)
    with told(True):
        if arguments.action == "show":
            del wanted["foils"]
            print(shown(recognise(arguments.source, **wanted)))
            return 0
        pairs = convert_pairs(
            arguments.source, arguments.out, overwrite=arguments.overwrite, n=arguments.n, seed=arguments.seed,
            strict=arguments.strict, **wanted,
        )  # fmt: skip
    print(converted(pairs, arguments.out))
    return 0


def _print_then_write(text: str, write: Callable[[], Sequence[Path]]) -> None:
    """Neither a full disk nor a closed output loses what the other would have kept."""
    try:
        print(text, flush=True)
    finally:
        written = write()
    if written:
        print("", *(f"written to {file}" for file in written), sep="\n")


def _information(arguments: argparse.Namespace) -> int:
    from attention_collapse.information import usable_information
    from attention_collapse.progress import told

    model = _model(arguments)
    file = _result_file(arguments.out, model)
    with told(True):
        result = usable_information(
            arguments.labels, model=model, pairs=arguments.pairs, features=arguments.features,
            folds=arguments.folds, components=arguments.components, seed=arguments.seed, device=arguments.device,
            batch_size=arguments.batch_size, strict=arguments.strict, **_of_source(arguments),
        )  # fmt: skip
    _print_then_write(result.text(), lambda: result.save(file))
    return 0


def _questions(arguments: argparse.Namespace) -> int:
    from attention_collapse.progress import told
    from attention_collapse.questions import answer_questions

    model = _model(arguments)
    file = _result_file(arguments.out, model)
    with told(True):
        result = answer_questions(
            model, arguments.questions, annotations=arguments.annotations, images=arguments.images,
            candidates=arguments.candidates, n=arguments.n, seed=arguments.seed, partners=arguments.partners,
            device=arguments.device, batch_size=arguments.batch_size, strict=arguments.strict,
        )  # fmt: skip
    _print_then_write(result.text(), lambda: result.save(file))
    return 0


def _explore(arguments: argparse.Namespace) -> int:
    from attention_collapse.exploration import explore, explore_study

    if arguments.serve:
        return _serve(arguments)
    if arguments.out is None:
        raise ParamsError(
            "neither --out nor --serve was given",
            expected="a file to write, or --serve for a live page",
            remedy="name the file: --out page.html",
        )
    if bool(arguments.study) == bool(arguments.model) or (arguments.study and arguments.pairs):
        raise ParamsError(
            "a study and a model (or pairs) at once, or neither",
            expected="either --study NAME, or --model NAME with --pairs FOLDER",
            remedy="explore a study (--study embedded), or a model on your pairs (--model NAME --pairs FOLDER)",
        )
    if arguments.study:
        page = explore_study(arguments.study, find_root(), arguments.out)
    else:
        page = explore(
            _model(arguments), arguments.pairs, split=arguments.split, columns=arguments.columns,
            images=arguments.images, n=arguments.n, show=arguments.show, seed=arguments.seed,
            device=arguments.device, batch_size=arguments.batch_size, twin=not arguments.no_twin,
            t_shap=arguments.t_shap, strict=arguments.strict, max_unknown=arguments.max_unknown, out=arguments.out,
        )  # fmt: skip
    print(f"{arguments.out}: {len(page.html.encode('utf-8')) / 2**20:.1f} MiB; open it in a browser")
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    from attention_collapse.live import serve

    if not arguments.model or arguments.study or arguments.out:
        raise ParamsError(
            "--serve with --study or --out, or without --model",
            expected="--serve --model NAME, with --pairs where pairs are to be swapped in; it writes no file",
            remedy="name the model, and leave out --study and --out",
        )
    serve(
        _model(arguments), arguments.pairs, host=arguments.host, port=arguments.port, t_shap=arguments.t_shap,
        split=arguments.split, columns=arguments.columns, images=arguments.images, n=arguments.n, seed=arguments.seed,
        device=arguments.device, batch_size=arguments.batch_size, twin=not arguments.no_twin, strict=arguments.strict,
        max_unknown=arguments.max_unknown,
    )  # fmt: skip
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    from attention_collapse.planning import calibrate, default_calibration, plan, written_plan
    from attention_collapse.progress import told
    from attention_collapse.report.plan import plan_text
    from attention_collapse.repository.check import find_study

    out, study = _result_file(arguments.out, None), find_study(arguments.study)
    if not arguments.calibrate and (arguments.model or arguments.pairs or arguments.device):
        raise ParamsError(
            "--model, --pairs or --device without --calibrate",
            expected="they say what is timed, and how",
            remedy="add --calibrate, or leave them out",
        )
    files = arguments.calibration or [default_calibration(study)]
    why_not: dict[str, str] = {}
    if arguments.calibrate:
        with told(True):
            why_not = calibrate(
                study, files[0], models=arguments.model or (), pairs=arguments.pairs, device=arguments.device
            )
    found = plan(study, files if arguments.calibration or files[0].is_file() else (), why_not)
    _print_then_write(plan_text(found), lambda: written_plan(found, out) if out else [])
    return 0


def _models(_: argparse.Namespace) -> int:
    from attention_collapse.inventory import listing

    rows = listing()
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print("\nLicences are noted as far as known: the model's page is what counts. Memory is that of the weights.")
    print("A hub id, a folder, a weights file or a LoRA may stand in place of a name: docs/your_model.md. A study pins")
    print("each hub revision at its first run and insists on it from then on.")
    return 0


def _measures(arguments: argparse.Namespace) -> int:
    from attention_collapse.report.measures import listing, named, write_tables

    if not arguments.write:
        print(listing(named(arguments.name)) if arguments.name else listing())
        return 0
    for file in write_tables(find_root()):
        print(f"{file}: written")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from attention_collapse.repository.check import check

    verdict = check(arguments.study, arguments.max_imbalance, arguments.measure)
    print("\n".join(verdict.lines))
    if not verdict.judged:
        raise PipelineError(
            f"no model of the study {arguments.study!r} has a verdict, so nothing was checked",
            expected="a model under test (no control) that has a test of the measure",
            remedy="name another --measure, or add a model under `models` and run `dvc repro`",
        )
    return 1 if verdict.severe else 0


def _verify(_: argparse.Namespace) -> int:
    from attention_collapse.repository.verify import verification_text, verify

    found = verify()
    print(verification_text(found))
    _say_departures()
    return 1 if found.mismatches else 0


def _say_departures() -> None:
    """What of the environment is not what requirements.txt pins: a note, for numbers may follow it."""
    from attention_collapse.identity.environment import departures

    for departure in departures(Path()):
        print(f"note: {departure}")


def _status(_: argparse.Namespace) -> int:
    from attention_collapse.repository.status import stale

    problems, absent = stale()
    for study in absent:
        print(f"{study}: has not run; no result of it is claimed")
    for problem in problems:
        print(problem)
    plural = "s" * (len(problems) != 1)
    print("everything committed is current" if not problems else f"{len(problems)} difference{plural}; run `dvc repro`")
    _say_departures()
    return 1 if problems else 0


def _evidence(_: argparse.Namespace) -> int:
    from attention_collapse.report.evidence_check import Check

    check = Check(Path()).run()
    for failure in check.failures:
        print(failure)
    if check.failures:
        print(f"{len(check.failures)} failures")
        return 1
    print(f"{check.citations} citations in {check.files} files resolve; no number is typed by hand")
    return 0


def _diff(arguments: argparse.Namespace) -> int:
    from attention_collapse.report.difference import LIMIT
    from attention_collapse.repository.difference import difference

    print(difference(arguments.old, arguments.new, limit=None if arguments.all else LIMIT), end="")
    return 0


def _track(arguments: argparse.Namespace) -> int:
    from attention_collapse.report.tracking import mirror
    from attention_collapse.study.results import all_results

    results = all_results()
    revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    added, present = mirror(results, revision or "unknown", arguments.uri)
    print(f"{added} results added, {present} already there")
    return 0


def _pipeline(arguments: argparse.Namespace) -> int:
    from attention_collapse.files import write_text
    from attention_collapse.repository.pipeline import pipeline, studies

    stale = []
    for file, params in studies(Path()).items():
        text = pipeline(params)
        if not file.is_file() or file.read_text("utf-8") != text:
            stale.append(file)
            if arguments.write:
                write_text(file, text)
    for file in stale:
        print(f"{file}: {'written' if arguments.write else 'is not what repository/pipeline.py says'}")
    if not stale:
        print("every dvc.yaml is what repository/pipeline.py says")
    return 1 if stale and not arguments.write else 0


RUN: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "diagnose": _diagnose,
    "questions": _questions,
    "information": _information,
    "pairs": _pairs,
    "explore": _explore,
    "plan": _plan,
    "models": _models,
    "measures": _measures,
    "check": _check,
    "verify": _verify,
    "status": _status,
    "evidence": _evidence,
    "diff": _diff,
    "pipeline": _pipeline,
    "track": _track,
}


def _run(argv: Sequence[str] | None) -> int:
    arguments = command_parser().parse_args(argv)
    # What works on a repository runs at its root, wherever in it the user stands.
    with chdir(find_root()) if arguments.in_repository else nullcontext():
        return RUN[arguments.command](arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; what a user can cause or mend is a message, never a traceback.

    0: done, and a gate is passed. 1: a gate is not passed, or had nothing to judge, or an error in three parts is on
    standard error. 2: the arguments are wrong. 130: interrupted. 141: the reader of the output has closed it.
    """
    try:
        with explained(), readable_streams():
            return _run(argv)
    except AttentionCollapseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141


if __name__ == "__main__":
    sys.exit(main())
