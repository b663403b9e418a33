"""The folds of a run that are trained, and on which records."""

from collections.abc import Iterable
from pathlib import Path

from data_tools import splits
from data_tools.manifest import Manifest
from data_tools.runtime import atomic
from data_tools.runtime.errors import InputError
from tf_hypoperfusion.inference import onnx_model
from tf_hypoperfusion.training import roles, run_summary


def network(run: Path, fold: int | None) -> Path:
    """A fold's network: training's ``best.keras``, else the ``model.onnx`` of other software."""
    own = roles.folder(run, fold) / "best.keras"
    other = own.with_name(onnx_model.FILE)
    return other if other.is_file() and not own.is_file() else own


def trained(run: Path) -> list[int]:
    """The folds that have a network."""
    return [k for k in run_summary.fold_numbers(run) if network(run, k).is_file()]


def asked(run: Path, fold: str, records_dir: str) -> list[int | None]:
    """The trained folds among those asked for.

    Args:
        run: folder of the folds.
        fold: a number, ``all`` of them, or ``final`` for the network of all subsets.
        records_dir: for the message.

    Raises:
        InputError: no such fold, or none that is trained.
    """
    splits.check_fold(fold)
    folds: list[int | None] = [k for k in trained(run) if fold in ("all", str(k))]
    if fold == roles.FINAL and network(run, None).is_file():
        folds = [None]
    if not folds:
        expected = run / (roles.FINAL if fold == roles.FINAL else "fold-*") / "best.keras"
        raise InputError(
            f"{run} holds no trained fold ({fold}); expected {expected}. Train one: "
            f"python -m tf_hypoperfusion.train --fold={fold.replace('all', '0')} "
            f"--records={records_dir} --run={run}"
        )
    return folds


def unfinished(run: Path, folds: Iterable[int | None]) -> list[str]:
    """A warning for each fold that is not trained to its end."""
    summary = run_summary.summarise(run)
    known = {one.fold: one for one in (*summary.folds, summary.final) if one}
    return [
        f"{roles.in_words(k)} is not trained to its end ({known[k].epochs} epochs so far)"
        for k in folds
        if k in known and not known[k].finished
    ]


def refuse_other_records(
    run: Path, folds: Iterable[int | None], records_dir: str, manifest: Manifest
) -> None:
    """Make sure that no test patient was seen in training.

    Raises:
        InputError: a fold was trained on other records, or nobody knows on which.
    """
    for k in folds:
        folder = roles.folder(run, k)
        config = atomic.read_json(folder / "config.json")
        if not config:
            raise InputError(
                f"{folder} has no readable config.json, so nobody knows which patients it "
                "was trained on; bring it back, or train the fold anew"
            )
        if config.get("fold") != k:
            raise InputError(
                f"{folder} holds {roles.in_words(config.get('fold'))} by its config.json: it was "
                f"trained on the test patients of {roles.in_words(k)}. Give the folder "
                "its own name back."
            )
        if (config.get("records") or {}).get("fingerprint") != manifest.fingerprint:
            raise InputError(
                f"{folder} was trained on other records than {records_dir}, so a test "
                "patient may have been seen in training; give the records it was trained on"
            )
